#!/usr/bin/env bash
# fdm and fetchmail: Debian 12 has versions that know no OAuth2, and say so
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs fdm fetchmail

{ hooks; account work here "token_file = \"$HOME/secret\";"; } | configure
start_pizauth
sign_in work "$me"
await 10 test -s secret

say 'fdm'
example fdm/fdm.conf >.fdm.conf
case $(fdm -f .fdm.conf -vv -n 2>&1 | sed -n 's/^version is: fdm \([^,]*\),.*/\1/p') in
1.*)
    fails fdm -f .fdm.conf fetch >log 2>&1 || die 'fdm knows xoauth2 after all'
    says 'unknown token: xoauth2' log
    ;;
*)
    deliver here 'a mail for fdm'
    fdm -f .fdm.conf fetch
    has_mail Maildir 'a mail for fdm' || die 'it was not fetched'
    ;;
esac

say 'fetchmail'
{
    example fetchmail/fetchmailrc | sed "s|/run/user/1000/work.token|$HOME/secret|"
    echo "    mda \"cat >>'$HOME/fetched'\" sslcertfile \"$SSL_CERT_FILE\""
} >.fetchmailrc
case $(fetchmail --version 2>/dev/null) in
*'fetchmail release 6.'*)
    fails fetchmail --nosyslog --nodetach >log 2>&1 || die 'fetchmail knows oauthbearer after all'
    says 'syntax error at oauthbearer' log
    ;;
*)
    deliver here 'a mail for fetchmail'
    fetchmail --nosyslog --nodetach
    says 'Subject: a mail for fetchmail' fetched
    ;;
esac
no_secret_astray
