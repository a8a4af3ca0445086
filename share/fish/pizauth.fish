# Completion of pizauth(1) for fish.

function __pizauth_accounts
    # Out of the JSON: any character may be in a name.
    pizauth status -j 2>/dev/null </dev/null |
        grep -oE '"account":"([^"\\\\]|\\\\.)*"' |
        sed -e 's/^"account":"//' -e 's/"$//' -e 's/\\\\\(["\\\\]\)/\1/g'
end

# The words before the cursor that are no options, a line each.
function __pizauth_words
    set --local value no
    for word in (commandline --cut-at-cursor --current-process --tokenize)[2..]
        # The word after one of these is its value.
        if test $value = yes
            set value no
            continue
        end
        contains -- $word -c --config -f --format -m --min-valid -w --wait --user --host --port
        and set value yes
        string match --quiet -- '-*' $word; or echo -- $word
    end
end

# True where an account is expected and none has been given yet.
function __pizauth_wants_account
    set --local words (__pizauth_words)
    test (count $words) -eq 1; and contains -- $words[1] auth git-credential import refresh revoke show test tunnel
end

# True where one of git's operations is expected.
function __pizauth_wants_operation
    set --local words (__pizauth_words)
    test (count $words) -eq 2; and test $words[1] = git-credential
end

complete --command pizauth --no-files
complete --command pizauth --short-option h --long-option help --description 'Print a usage message'
complete --command pizauth --condition __fish_use_subcommand --short-option V --long-option version --description 'Print the version'

complete --command pizauth --condition __fish_use_subcommand --arguments auth --description 'Sign in, and wait for the result'
complete --command pizauth --condition __fish_use_subcommand --arguments check --description 'Check the configuration'
complete --command pizauth --condition __fish_use_subcommand --arguments dump --description 'Write the state to standard output or a file'
complete --command pizauth --condition __fish_use_subcommand --arguments git-credential --description 'Be a credential helper of git'
complete --command pizauth --condition __fish_use_subcommand --arguments import --description 'Take over a refresh token from another program'
complete --command pizauth --condition __fish_use_subcommand --arguments info --description 'Print paths, version and ports'
complete --command pizauth --condition __fish_use_subcommand --arguments redirect --description 'Complete a sign-in with the address the browser ended at'
complete --command pizauth --condition __fish_use_subcommand --arguments refresh --description 'Obtain a new token now'
complete --command pizauth --condition __fish_use_subcommand --arguments register --description 'Register a client at a provider'
complete --command pizauth --condition __fish_use_subcommand --arguments reload --description 'Read the configuration again'
complete --command pizauth --condition __fish_use_subcommand --arguments restart --description 'Hand over to a new version'
complete --command pizauth --condition __fish_use_subcommand --arguments restore --description 'Read a state from standard input'
complete --command pizauth --condition __fish_use_subcommand --arguments revoke --description 'Forget the tokens of an account'
complete --command pizauth --condition __fish_use_subcommand --arguments server --description 'Start the server'
complete --command pizauth --condition __fish_use_subcommand --arguments setup --description 'Guide from an address to a mailbox'
complete --command pizauth --condition __fish_use_subcommand --arguments show --description 'Print the access token of an account'
complete --command pizauth --condition __fish_use_subcommand --arguments shutdown --description 'End the server'
complete --command pizauth --condition __fish_use_subcommand --arguments status --description 'Print a line for every account'
complete --command pizauth --condition __fish_use_subcommand --arguments test --description 'Sign in at mail servers'
complete --command pizauth --condition __fish_use_subcommand --arguments tunnel --description 'Sign in for another program'
complete --command pizauth --condition __fish_use_subcommand --arguments watch --description 'Print what happens, as it happens'

complete --command pizauth --condition '__fish_seen_subcommand_from auth' --short-option o --long-option open --description 'Open the address in the browser'
complete --command pizauth --condition '__fish_seen_subcommand_from auth' --short-option q --long-option qr --description 'Draw a QR code'
complete --command pizauth --condition '__fish_seen_subcommand_from auth' --short-option n --long-option no-wait --description 'Do not wait for the result'
complete --command pizauth --condition '__fish_seen_subcommand_from check' --short-option c --long-option config --require-parameter --force-files --description 'Read this configuration'
complete --command pizauth --condition '__fish_seen_subcommand_from check' --short-option s --long-option show --description 'Print each account as it is understood, without its secrets'
complete --command pizauth --condition '__fish_seen_subcommand_from dump' --short-option f --long-option force --description 'Write to a terminal, too'
complete --command pizauth --condition '__fish_seen_subcommand_from dump' --short-option o --long-option output --require-parameter --force-files --description 'Write this file'
complete --command pizauth --condition '__fish_seen_subcommand_from git-credential' --short-option b --long-option bearer --description 'Send the token in a header, over https'
complete --command pizauth --condition '__fish_seen_subcommand_from git-credential' --long-option user --require-parameter --description 'The user, whatever git says'
complete --command pizauth --condition '__fish_seen_subcommand_from info' --short-option c --long-option config --require-parameter --force-files --description 'Show this configuration file'
complete --command pizauth --condition '__fish_seen_subcommand_from shutdown' --short-option f --long-option force --description "Even if the tokens can't be saved"
complete --command pizauth --condition '__fish_seen_subcommand_from info status watch' --short-option j --long-option json --description 'Print JSON'
complete --command pizauth --condition '__fish_seen_subcommand_from git-credential refresh show test' --short-option u --long-option no-url --description 'Leave the URL out of errors'
complete --command pizauth --condition '__fish_seen_subcommand_from setup' --short-option c --long-option client --require-parameter --arguments 'aerc all emacs fdm getmail git-send-email goimapnotify himalaya mbsync meli mpop msmtp mutt neomutt none offlineimap s-nail' --description 'For this mail program'
complete --command pizauth --condition '__fish_seen_subcommand_from setup' --short-option n --long-option name --require-parameter --description 'Account name'
complete --command pizauth --condition '__fish_seen_subcommand_from setup' --short-option p --long-option print --require-parameter --arguments 'config aerc emacs fdm getmail git git-send-email goimapnotify himalaya mbsync meli mpop msmtp mutt neomutt offlineimap s-nail' --description 'Print only this'
complete --command pizauth --condition '__fish_seen_subcommand_from setup' --arguments 'aol att codeberg comcast fastmail gitlab google mailru microsoft outlook srht thundermail yahoo yandex'
complete --command pizauth --condition '__fish_seen_subcommand_from show' --short-option f --long-option format --require-parameter --arguments 'raw bearer headers json kubernetes xoauth2 oauthbearer' --description 'What to print'
complete --command pizauth --condition '__fish_seen_subcommand_from show' --long-option id-token --description 'The ID token, in place of the access token'
complete --command pizauth --condition '__fish_seen_subcommand_from git-credential show' --short-option m --long-option min-valid --require-parameter --description 'Only a token that is valid this long'
complete --command pizauth --condition '__fish_seen_subcommand_from git-credential show tunnel' --short-option w --long-option wait --require-parameter --description 'Wait at most this long'
complete --command pizauth --condition '__fish_seen_subcommand_from show' --long-option user --require-parameter --description 'The mailbox, for xoauth2 and oauthbearer'
complete --command pizauth --condition '__fish_seen_subcommand_from show' --long-option host --require-parameter --description 'The mail server, for oauthbearer'
complete --command pizauth --condition '__fish_seen_subcommand_from show' --long-option port --require-parameter --description 'Its port, for oauthbearer'
complete --command pizauth --condition '__fish_seen_subcommand_from test' --short-option v --long-option verbose --description 'Show the dialogue'
complete --command pizauth --condition '__fish_seen_subcommand_from test tunnel' --long-option user --require-parameter --description 'The mailbox'
complete --command pizauth --condition '__fish_seen_subcommand_from register' --short-option n --long-option name --require-parameter --description 'Account name'
complete --command pizauth --condition '__fish_seen_subcommand_from register' --short-option s --long-option scope --require-parameter --description 'A scope to ask for'
complete --command pizauth --condition '__fish_seen_subcommand_from register' --short-option t --long-option token-cmd --require-parameter --description 'Prints the initial access token'
complete --command pizauth --condition '__fish_seen_subcommand_from redirect' --short-option a --long-option account --require-parameter --no-files --arguments '(__pizauth_accounts)' --description 'The account of a code without an address'
complete --command pizauth --condition '__fish_seen_subcommand_from revoke' --short-option l --long-option local --description 'Do not ask the provider to revoke them'
complete --command pizauth --condition '__fish_seen_subcommand_from server' --short-option c --long-option config --require-parameter --force-files --description 'Read this configuration'
complete --command pizauth --condition '__fish_seen_subcommand_from server' --short-option d --long-option debug --description 'Stay in the foreground, log to standard error'
complete --command pizauth --condition '__fish_seen_subcommand_from server' --short-option v --long-option verbose --description 'Log more'
complete --command pizauth --condition __pizauth_wants_operation --arguments 'get store erase'
complete --command pizauth --condition __pizauth_wants_account --arguments '(__pizauth_accounts)' --description Account
