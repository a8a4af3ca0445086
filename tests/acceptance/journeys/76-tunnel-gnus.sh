#!/usr/bin/env bash
# Gnus reads a mailbox through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs emacs

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
from_nothing emacs/gnus.el
example emacs/gnus.el >gnus.el
cat >read.el <<'END'
(require 'gnus)
(setq gnus-read-active-file t gnus-always-read-dribble-file nil gnus-use-dribble-file nil)
(gnus-no-server)
(gnus-activate-group "INBOX" t)
(princ (with-current-buffer (progn (gnus-request-head 1 "INBOX") nntp-server-buffer) (buffer-string)))
END
deliver here 'a mail for Gnus'
sign_in work "$me"
timeout 60 emacs --batch --quick --load ./gnus.el --load ./read.el >log 2>&1 || die "Emacs fails: $(cat log)"
says 'Subject: a mail for Gnus' log
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
