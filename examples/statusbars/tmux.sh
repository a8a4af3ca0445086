#!/bin/sh
# tmux: names the accounts that need you in the status line, and is silent
# otherwise. In ~/.tmux.conf:
#
#   set -g status-interval 15
#   set -ag status-right ' #(~/.tmux/tmux.sh)'
#
# Needs jq.

if state=$(pizauth status -j 2>/dev/null </dev/null); then
    # A "#" in a name would start a format of tmux.
    printf '%s\n' "$state" | jq -r '
        .accounts | map(select(.needs != "none") | .account | gsub("#"; "##"))
        | if . == [] then "" else "#[fg=red]✉ \(join(" "))#[default]" end'
else
    echo '#[fg=red]✉ down#[default]'
fi
