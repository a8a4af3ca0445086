#!/usr/bin/env bash
# a container with nothing but the program and a restricted socket: it can show one account
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs bwrap

{
    hooks
    account work here
    account private here
    echo "socket \"$HOME/mail.sock\" { accounts = [\"work\"]; allow = [\"show\"]; }"
} | configure
start_pizauth
sign_in work "$me"
sign_in private "$me"

# A file system with the program, its libraries and that socket, and no network.
container() {
    bwrap --unshare-all --die-with-parent --clearenv --setenv PIZAUTH_SOCK /mail.sock \
        --ro-bind "$(command -v pizauth)" /pizauth --bind "$HOME/mail.sock" /mail.sock \
        --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev \
        /pizauth "$@"
}
container --version >log || { echo 'bwrap can make no container here'; exit 77; }
alive here "$(container show work)" || die 'that is no token'
expect_status 67 container show private
expect_status 1 container dump -f
says 'this socket' stderr
expect_status 1 container status
says 'this socket' stderr
comes_to_say 'mail.sock' pizauth.log
no_secret_astray
