#!/usr/bin/env bash
# Emacs sends, by smtpmail
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs emacs

{ hooks; account work here; } | configure
start_pizauth
# Its network security manager keeps a file there, too.
from_nothing emacs/pizauth.el
example emacs/pizauth.el >pizauth.el
cat >send.el <<END
(setq gnutls-trustfiles (list (getenv "SSL_CERT_FILE")) gnutls-verify-error t)
(require 'message)
(with-temp-buffer
  (insert "From: $me\nTo: $me\nSubject: sent by Emacs\n" mail-header-separator "\nHello.\n")
  (message-mode)
  (message-send-mail))
END

say 'without a token: an error that says what to do'
fails timeout 60 emacs --batch --quick --load ./pizauth.el --load ./send.el >log 2>&1 || die 'Emacs sends without a token'
says 'user-error.*Access token unavailable until authorised' log
fails ls "$TMPDIR"/pizauth?????? 2>/dev/null || die 'it leaves a file behind'

say 'with one'
sign_in work "$me"
timeout 60 emacs --batch --quick --load ./pizauth.el --load ./send.el >log 2>&1 || die "Emacs fails: $(cat log)"
await 10 arrived here 'sent by Emacs'
comes_to_say "user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
no_secret_astray
