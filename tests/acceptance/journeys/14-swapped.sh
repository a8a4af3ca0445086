#!/usr/bin/env bash
# two accounts are swapped in the config: neither's token reaches the other's servers
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync

# The configuration of the mail program, for an account at a provider.
mail_program() {
    example mbsync/mbsyncrc "$2" | sed "s|work|$1|g; s|~/Maildir|~/Maildir-$1|"
    echo
}

{ hooks; account work here; account home there; } | configure
start_pizauth
{ mail_program work here; mail_program home there; } >.mbsyncrc
mkdir Maildir-work Maildir-home
sign_in work "$me"
sign_in home "$me"
deliver here 'for work'
deliver there 'for home'
mbsync --all 2>log
has_mail Maildir-work 'for work' || die 'no mail for work'
has_mail Maildir-home 'for home' || die 'no mail for home'
fails has_mail Maildir-work 'for home' || die 'a mail in the wrong place'

say 'swapped: no token is left, and mbsync shows none to anybody'
{ hooks; account work there; account home here; } | configure
pizauth reload
refreshes=$(grep -c refreshed events || :)
expect_status 77 pizauth show work
expect_status 77 pizauth show home
fails mbsync --all 2>log || die 'mbsync succeeds without tokens'
# What would go wrong would do so with the next refresh.
await 60 fails alive here "$(last_issued here access_token)"
await 60 fails alive there "$(last_issued there access_token)"
[ "$(grep -c refreshed events || :)" -eq "$refreshes" ] || die "a refresh happened: $(cat events)"
no_secret_astray

say 'new sign-ins, and mail flows the other way round'
sign_in work "$me"
sign_in home "$me"
{ mail_program work there; mail_program home here; } >.mbsyncrc
rm -rf Maildir-work Maildir-home .mbsync
mkdir Maildir-work Maildir-home
mbsync --all 2>log
has_mail Maildir-work 'for home' || die 'no mail for the new work'
has_mail Maildir-home 'for work' || die 'no mail for the new home'
no_secret_astray
