#!/usr/bin/env bash
# a home with files of its own: what the guide writes and setup prints is added, and nothing is lost
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync msmtp

say 'what the user has: a mailbox, and a configuration of each program'
mkdir -p .config/msmtp Old before
{ hooks; echo '// mine'; account old there; } >.config/pizauth.conf
cat >.config/msmtp/config <<END
# mine
defaults
tls_trust_file $SSL_CERT_FILE
account old
host localhost
port $(at there submission)
tls on
auth xoauth2
user $me
from $me
passwordeval "pizauth show old"
END
cat >.mbsyncrc <<END
# mine
IMAPStore old-remote
Host localhost
Port $(at there imaps)
User $me
SSLType IMAPS
AuthMechs XOAUTH2
PassCmd "pizauth show old"

MaildirStore old-local
Path ~/Old/
Inbox ~/Old/INBOX

Channel old
Far :old-remote:
Near :old-local:
Create Near
SyncState *
END
cp .config/pizauth.conf .config/msmtp/config .mbsyncrc before/
start_pizauth
sign_in old "$me"

unchanged() {
    cmp "$1" "before/$(basename "$1")" || die "$1 has changed"
}

# Whether a file has all that was in it before, in one piece.
kept() {
    [[ $(cat "$1") == *"$(cat "before/$(basename "$1")")"* ]] || die "$1 has lost something: $(cat "$1")"
}

# guide <answer to "Write it?"> <more answers>...
guide() {
    local answer
    for answer in "$(at here issuer)" "$me" "imaps://localhost:$(at here imaps)" \
        y 'openid offline_access' none "$@"; do
        echo "$answer"
    done | pizauth setup --name work >log 2>&1 || die "the guide fails: $(cat log)"
}

say 'the guide, whose last question is answered with no'
guide n
says '^account "work"' log
for file in .config/pizauth.conf .config/msmtp/config .mbsyncrc; do
    unchanged "$file"
done
fails test -e .config/pizauth.conf~ || die 'there is a copy of nothing new'

say 'and with yes: the account is added, a copy is kept, and the old tokens are still there'
guide y y n n mbsync none
says '^Channel work' log
kept .config/pizauth.conf
cmp .config/pizauth.conf~ before/pizauth.conf
unchanged .config/msmtp/config
unchanged .mbsyncrc
alive there "$(pizauth show old)" || die 'the token is gone'
sign_in work "$me"

say 'what setup prints can be added by hand'
for program in msmtp mbsync; do
    pizauth setup -p "$program" --name work "$(at here issuer)" "$me" >printed 2>said
    says 'the mail servers aren.t known: replace those of example.com with yours' said
    fill here <printed >"$program"
done
cat msmtp >>.config/msmtp/config
cat mbsync >>.mbsyncrc
kept .config/msmtp/config
kept .mbsyncrc
mkdir -p Maildir
for account in old work; do
    provider=here
    [ "$account" = work ] || provider=there
    letter "sent with $account" | msmtp -a "$account" "$me"
    await 10 arrived "$provider" "sent with $account"
    mbsync "$account" >log 2>&1 || die "mbsync fails: $(cat log)"
done
has_mail Old 'sent with old' || die 'the old mailbox was not fetched'
has_mail Maildir 'sent with work' || die 'the new mailbox was not fetched'
no_secret_astray
