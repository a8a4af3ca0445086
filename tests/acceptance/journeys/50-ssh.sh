#!/usr/bin/env bash
# the socket goes along over ssh, to a real sshd: the whole one, and one that can do less
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs ssh sshd
# It wants to be called by its whole name.
sshd=$(command -v sshd)

{
    hooks
    account work here
    account private here
    echo "socket \"$HOME/mail.sock\" { accounts = [\"work\"]; allow = [\"show\"]; }"
} | configure
start_pizauth
sign_in work "$me"

say 'an sshd, as this user, for this user'
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f user_key
cp user_key.pub authorized_keys
port=$(free_port)
cat >sshd_config <<END
Port $port
ListenAddress 127.0.0.1
HostKey $HOME/host_key
PidFile $HOME/sshd.pid
AuthorizedKeysFile $HOME/authorized_keys
StreamLocalBindUnlink yes
StrictModes no
UsePAM yes
END
"$sshd" -D -e -f sshd_config 2>sshd.log &
helpers+=($!)
cat >ssh_config <<END
Host remote
    HostName 127.0.0.1
    Port $port
    IdentityFile $HOME/user_key
    IdentitiesOnly yes
    BatchMode yes
    StrictHostKeyChecking accept-new
    UserKnownHostsFile $HOME/known_hosts
    ExitOnForwardFailure yes
END

# Forwards a socket to the path "far", as README says it, until the journey ends or the next time.
forward() {
    [ -z "${tunnel:-}" ] || kill "$tunnel"
    rm -f far
    ssh -F ssh_config -N -R "$HOME/far:$1" remote 2>>ssh.log &
    tunnel=$!
    helpers+=("$tunnel")
    await 20 test -S far
}

await 20 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
say 'the whole socket'
forward "$XDG_RUNTIME_DIR/pizauth/pizauth.sock"
alive here "$(PIZAUTH_SOCK=$HOME/far pizauth show work)" || die 'that is no token'
PIZAUTH_SOCK=$HOME/far pizauth status >log
says '^work: Active access token' log
PIZAUTH_SOCK=$HOME/far expect_status 77 pizauth show private

say 'the restricted one: one account, and only to show'
forward "$HOME/mail.sock"
alive here "$(PIZAUTH_SOCK=$HOME/far pizauth show work)" || die 'that is no token'
for command in 'show private' 'dump -f' 'revoke work' 'reload' 'shutdown'; do
    # shellcheck disable=SC2086
    ! PIZAUTH_SOCK=$HOME/far pizauth $command >stdout 2>stderr || die "it can $command"
    [ ! -s stdout ] || die "$command prints something"
done
pizauth show work >secret || die 'the server is gone'

say 'without the tunnel there is no server'
kill "$tunnel"
wait "$tunnel" || :
PIZAUTH_SOCK=$HOME/far expect_status 69 pizauth show work
no_secret_astray
