#!/bin/sh
# Tested with swaks 20201014 (Debian 12), which knows no OAuth2.
swaks --pipe 'pizauth tunnel work smtp://smtp.example.com:587' \
    --from you@example.com --to you@example.com --header 'Subject: sent by swaks'
