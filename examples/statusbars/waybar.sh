#!/bin/sh
# Waybar: an icon with the state of every account, updated as it changes.
#
#   "custom/pizauth": {
#       "exec": "~/.config/waybar/waybar.sh",
#       "return-type": "json",
#       "on-click": "pizauth status | xargs -0 notify-send pizauth"
#   }
#
# Classes for style.css: good, waiting (passes by itself), needed (sign in or
# correct the configuration), down (no server). Needs jq.

line() {
    pizauth status -j 2>/dev/null </dev/null | jq -c '
        .accounts
        | (map(select(.needs != "none"))) as $needed
        | (map(select(.needs == "none" and (.valid | not)))) as $waiting
        | { text: (if $needed != [] then "✉ \($needed | length)" else "✉" end),
            class: (if $needed != [] then "needed"
                    elif $waiting != [] then "waiting" else "good" end),
            tooltip: (map("\(.account): "
                + (if .needs == "sign_in" then "sign in"
                   elif .needs == "config" then "correct the configuration"
                   elif .valid then "valid until \(.expires // "the provider says otherwise")"
                   else "refreshing" end)
                + (if .refresh_error then " (\(.refresh_error))" else "" end))
                | join("\n")) }'
}

while :; do
    # The first event comes at once; the others when something changes.
    pizauth watch -j 2>/dev/null </dev/null | while read -r _; do line; done
    echo '{"text":"✉ –","class":"down","tooltip":"pizauth is not running"}'
    sleep 10
done
