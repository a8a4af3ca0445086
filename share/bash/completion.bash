# Completion of pizauth(1) for bash 3.2 and later.

# The account names, out of the JSON: any character may be in one.
_pizauth_accounts() {
    pizauth status -j 2>/dev/null </dev/null |
        grep -oE '"account":"([^"\\]|\\.)*"' |
        sed -e 's/^"account":"//' -e 's/"$//' -e 's/\\\(["\\]\)/\1/g'
}

# Splits the line up to the cursor as the shell will: _pizauth_words are the
# words without their quotes, _pizauth_quote is the quote still open at the
# end, if any. COMP_WORDS won't do: it cuts words at "@" and ":".
_pizauth_split() {
    local line=${COMP_LINE:0:COMP_POINT} char i word='' open=''
    local -i any=0
    _pizauth_words=()
    for ((i = 0; i < ${#line}; i++)); do
        char=${line:i:1}
        if [[ $open == "'" && $char != "'" ]]; then
            word+=$char
        elif [[ $char == \\ ]]; then
            ((i++))
            # Between double quotes a backslash only quotes a few characters.
            [[ $open == '"' && ${line:i:1} != [\"\\\$\`] ]] && word+=\\
            word+=${line:i:1}
            any=1
        elif [[ -n $open && $char == "$open" ]]; then
            open=''
        elif [[ -n $open ]]; then
            word+=$char
        elif [[ $char == [\"\'] ]]; then
            open=$char
            any=1
        elif [[ $char == [[:space:]] ]]; then
            ((any)) && _pizauth_words+=("$word")
            word=''
            any=0
        else
            word+=$char
            any=1
        fi
    done
    _pizauth_words+=("$word")
    _pizauth_quote=$open
}

# Offers those of the lines on standard input that start with the last word,
# quoted in the way the user has begun to.
_pizauth_offer() {
    local current=$1 typed=$2 name rest
    while IFS= read -r name; do
        [[ -n $name && $name == "$current"* ]] || continue
        rest=${name:${#current}}
        case $_pizauth_quote in
        "'") rest=${rest//\'/\'\\\'\'} ;;
        '"')
            rest=${rest//\\/\\\\}
            rest=${rest//\"/\\\"}
            rest=${rest//\$/\\\$}
            rest=${rest//\`/\\\`}
            ;;
        *) [[ -z $rest ]] || printf -v rest %q "$rest" ;;
        esac
        COMPREPLY+=("$typed$rest")
    done
}

_pizauth() {
    local _pizauth_words _pizauth_quote current previous verb='' operand='' i
    _pizauth_split
    COMPREPLY=()
    local last=$((${#_pizauth_words[@]} - 1))
    current=${_pizauth_words[last]}
    previous=${_pizauth_words[last - 1]}
    for ((i = 1; i < last; i++)); do
        case ${_pizauth_words[i]} in
        -c | --config) [[ $verb == check || $verb == server || $verb == setup ]] && ((i++)) ;;
        --client | -p | --print) [[ $verb == setup ]] && ((i++)) ;;
        -n | --name) [[ $verb == setup || $verb == register ]] && ((i++)) ;;
        -o | --output) [[ $verb == dump ]] && ((i++)) ;;
        -f | --format | -m | --min-valid | -w | --wait | --user | --host | --port)
            [[ $verb == show || $verb == git-credential || $verb == test ||
                $verb == tunnel ]] && ((i++))
            ;;
        -a | --account) [[ $verb == redirect ]] && ((i++)) ;;
        -s | --scope | -t | --token-cmd) [[ $verb == register ]] && ((i++)) ;;
        -*) ;;
        *)
            if [[ -z $verb ]]; then
                verb=${_pizauth_words[i]}
            else
                operand=${_pizauth_words[i]}
            fi
            ;;
        esac
    done

    local -a options
    options=(-h --help)
    case $verb in
    '') options+=(-V --version) ;;
    auth) options+=(-o --open -q --qr -n --no-wait) ;;
    check) options+=(-c --config -s --show) ;;
    dump) options+=(-f --force -o --output) ;;
    git-credential) options+=(-b --bearer -m --min-valid -u --no-url -w --wait --user) ;;
    info) options+=(-c --config -j --json) ;;
    watch | status) options+=(-j --json) ;;
    redirect) options+=(-a --account) ;;
    refresh) options+=(-u --no-url) ;;
    register) options+=(-n --name -s --scope -t --token-cmd) ;;
    revoke) options+=(-l --local) ;;
    shutdown) options+=(-f --force) ;;
    show) options+=(-f --format --id-token -m --min-valid -u --no-url -w --wait --user --host --port) ;;
    setup) options+=(-c --client -n --name -p --print) ;;
    test) options+=(-u --no-url -v --verbose --user) ;;
    tunnel) options+=(-w --wait --user) ;;
    server) options+=(-c --config -d --debug -v --verbose) ;;
    esac

    # What the word before wants as its value.
    local value=''
    case $verb:$previous in
    check:-c | check:--config | server:-c | server:--config) value="file" ;;
    dump:-o | dump:--output) value="file" ;;
    setup:-c | setup:--client | setup:-p | setup:--print) value="program" ;;
    setup:-n | setup:--name) value="other" ;;
    show:-f | show:--format) value="format" ;;
    show:-m | show:--min-valid | show:-w | show:--wait) value="other" ;;
    show:--user | show:--host | show:--port) value="other" ;;
    git-credential:-m | git-credential:--min-valid | git-credential:-w) value="other" ;;
    git-credential:--wait | git-credential:--user | test:--user) value="other" ;;
    redirect:-a | redirect:--account) value="other" ;;
    tunnel:-w | tunnel:--wait | tunnel:--user) value="other" ;;
    register:-n | register:--name | register:-s | register:--scope) value="other" ;;
    register:-t | register:--token-cmd) value="other" ;;
    esac

    if [[ $value == other ]]; then
        return
    elif [[ $value == format ]]; then
        _pizauth_offer "$current" "$2" < <(printf '%s\n' raw bearer headers json kubernetes xoauth2 oauthbearer)
    elif [[ $value == program ]]; then
        _pizauth_offer "$current" "$2" < <(printf '%s\n' aerc all config emacs fdm getmail git-send-email \
            goimapnotify himalaya mbsync meli mpop msmtp mutt neomutt none offlineimap s-nail)
    elif [[ $value == file ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r i; do
            COMPREPLY+=("$i")
        done < <(compgen -f -- "$2")
    elif [[ $current == -* ]]; then
        _pizauth_offer "$current" "$2" < <(printf '%s\n' "${options[@]}")
    elif [[ -z $verb ]]; then
        _pizauth_offer "$current" "$2" < <(printf '%s\n' auth check dump git-credential \
            import info redirect refresh register reload restart restore revoke server setup show \
            shutdown status test tunnel watch)
    elif [[ -z $operand ]]; then
        case $verb in
        auth | git-credential | import | refresh | revoke | show | test | tunnel)
            _pizauth_offer "$current" "$2" < <(_pizauth_accounts)
            ;;
        setup)
            _pizauth_offer "$current" "$2" < <(printf '%s\n' aol att codeberg comcast fastmail \
                gitlab google mailru microsoft outlook srht thundermail yahoo yandex)
            ;;
        esac
    elif [[ $verb == git-credential ]]; then
        _pizauth_offer "$current" "$2" < <(printf '%s\n' get store erase)
    fi
}

complete -F _pizauth pizauth
