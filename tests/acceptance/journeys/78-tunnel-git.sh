#!/usr/bin/env bash
# git imap-send, which knows no OAuth2 in Debian 12, puts a patch into a mailbox through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
# Debian's.
PATH=/usr/bin:$PATH
[ -e /usr/lib/git-core/git-imap-send ] || needs git-imap-send

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
git init --quiet tree
cd tree
{ printf '[user]\n\tname = You\n\temail = %s\n' "$me"; example git-imap-send/gitconfig-tunnel; } >../.gitconfig
sed -i 's/= Drafts/= Sent/' ../.gitconfig
echo hello >file
git add file
git commit --quiet --message 'a patch through a tunnel'
git format-patch --quiet --stdout -1 >../patch

say 'without a token: the reason'
fails git imap-send <../patch >../log 2>&1 || die 'git imap-send succeeds without a token'
says 'authorised with URL' ../log

say 'with one'
cd ..
sign_in work "$me"
cd tree
git imap-send <../patch
await 10 arrived here '\[PATCH\] a patch through a tunnel'
cd ..
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
