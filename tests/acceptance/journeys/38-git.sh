#!/usr/bin/env bash
# git asks its credential helper for the token, and sends a patch through msmtp
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs msmtp
# Debian's, which has send-email.
PATH=/usr/bin:$PATH
[ -e /usr/lib/git-core/git-send-email ] || needs git-send-email

{ hooks; account work here; } | configure
start_pizauth
sign_in work "$me"
git init --quiet tree
cd tree
printf '[user]\n\tname = You\n\temail = %s\n' "$me" >../.gitconfig
echo hello >file
git add file
git commit --quiet --message 'a patch through msmtp'

say 'through msmtp'
{ echo defaults; echo "tls_trust_file $SSL_CERT_FILE"; example msmtp/msmtprc; } >../.msmtprc
example git-send-email/gitconfig-msmtp >>../.gitconfig
git send-email --quiet --confirm=never --to="$me" -1
await 10 arrived here '\[PATCH\] a patch through msmtp'

say 'the credential helper'
sed -i '/sendemail/,$d' ../.gitconfig
example git-send-email/gitconfig >>../.gitconfig
printf 'protocol=smtp\nhost=localhost:%s\nusername=%s\n\n' "$(at here submission)" "$me" |
    git credential fill >../secret
alive here "$(sed -n 's/^password=//p' ../secret)" || die 'that is no token'

say 'imap-send, of which Debian 12 has a version that knows no OAuth2'
{ example git-imap-send/gitconfig | sed 's/= Drafts/= Sent/'; printf '[imap]\n\tsslVerify = false\n'; } >>../.gitconfig
git format-patch --quiet --stdout -1 >../patch
case $(git --version) in
*' 2.39.'*)
    fails git imap-send <../patch 2>../imap.log || die 'git imap-send knows XOAUTH2 after all'
    says 'Login denied' ../imap.log
    ;;
*)
    git imap-send <../patch
    comes_to_say "imap-login: .*user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
    ;;
esac
cd ..
no_secret_astray
