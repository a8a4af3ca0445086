#!/bin/sh
# i3status: puts the accounts that need you in front of what i3status prints.
# In ~/.config/i3/config:
#
#   bar { status_command ~/.config/i3/i3status.sh }
#
# and in i3status.conf: general { output_format = "none" }. Needs jq.

needed() {
    if state=$(pizauth status -j 2>/dev/null </dev/null); then
        printf '%s\n' "$state" | jq -r '
            def those($need; $words): map(select(.needs == $need) | .account)
                | if . == [] then "" else "\($words): \(join(", ")) | " end;
            .accounts
            | those("sign_in"; "sign in") + those("config"; "correct the configuration")'
    else
        echo 'pizauth is down | '
    fi
}

i3status | while IFS= read -r line; do
    printf '%s%s\n' "$(needed)" "$line"
done
