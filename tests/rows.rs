//! Which test proves what: every row of the three lists that this project is held against, replies
//! from the wild, faults around the daemon, and measures that guard it, names its tests here, and they
//! must be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::conformance;

const CODE: &str = "tests::conformance::every_answer_to_a_code_has_its_outcome";
const VALID: &str =
    "tests::conformance::every_answer_to_a_refresh_has_its_outcome_while_the_token_is_valid";
const EXPIRED: &str =
    "tests::conformance::every_answer_to_a_refresh_has_its_outcome_once_the_token_has_expired";
const POLLS: &str = "oauth::device::polls_mean_what_rows_59_to_62_say_and_the_deviations";
const SIM: &str = "core::sim::every_promise_holds_in_every_world";
const MODEL: &str = "core::model::every_order_of_events_keeps_every_promise";

/// The replies: the row's number, what comes, and who shows what is made of it. Rows of token replies
/// are cases of conformance.rs, under their number; `oauth::token` has each for the verdict alone.
const REPLIES: [(u32, &str, &[&str]); 86] = [
    (1, "tokens, as the RFC has them", &[CODE, VALID, EXPIRED]),
    (2, "bearer in another case", &[CODE, VALID, EXPIRED]),
    (3, "no token_type", &[CODE, VALID, EXPIRED]),
    (4, "a token_type that isn't known", &[CODE, VALID, EXPIRED]),
    (5, "expires_in as text", &[CODE, VALID, EXPIRED]),
    (6, "expires_in with a fraction", &[CODE, VALID, EXPIRED]),
    (7, "no expires_in", &[CODE, VALID, EXPIRED]),
    (
        8,
        "an expires_in that says nothing",
        &[CODE, VALID, EXPIRED],
    ),
    (9, "an expires_in without end", &[CODE, VALID, EXPIRED]),
    (10, "a refresh without a refresh token", &[VALID, EXPIRED]),
    (11, "an empty refresh token", &[VALID, EXPIRED]),
    (12, "a new refresh token", &[VALID, EXPIRED]),
    (
        13,
        "a sign-in without a refresh token",
        &[
            CODE,
            "core::account::a_sign_in_that_cannot_last_is_told_of_early_and_once",
        ],
    ),
    (14, "the same access token again", &[VALID, EXPIRED]),
    (15, "scopes in another form", &[CODE, VALID, EXPIRED]),
    (16, "a scope that wasn't granted", &[CODE, VALID, EXPIRED]),
    (17, "members that nobody knows", &[CODE, VALID, EXPIRED]),
    (18, "a form instead of JSON", &[CODE, VALID, EXPIRED]),
    (
        19,
        "a form that says it is plain text",
        &[CODE, VALID, EXPIRED],
    ),
    (20, "a byte order mark", &[CODE, VALID, EXPIRED]),
    (21, "JSON that says it is HTML", &[CODE, VALID, EXPIRED]),
    (22, "an id_token alone", &[CODE, VALID, EXPIRED]),
    (
        23,
        "an empty access token, or a number",
        &[CODE, VALID, EXPIRED],
    ),
    (
        24,
        "an access token with a newline",
        &[CODE, VALID, EXPIRED],
    ),
    (25, "an error with status 200, to a code", &[CODE]),
    (
        26,
        "an error with status 200, to a refresh",
        &[VALID, EXPIRED],
    ),
    (27, "invalid_grant", &[CODE, VALID, EXPIRED]),
    (28, "a session policy", &[VALID, EXPIRED]),
    (29, "a second factor is wanted", &[VALID, EXPIRED]),
    (30, "interaction_required", &[VALID, EXPIRED]),
    (31, "an access policy blocks", &[VALID, EXPIRED]),
    (32, "the client secret has expired", &[CODE, VALID, EXPIRED]),
    (33, "the client secret is missing", &[CODE, VALID, EXPIRED]),
    (
        34,
        "registered as another kind of client",
        &[CODE, VALID, EXPIRED],
    ),
    (35, "invalid_scope", &[CODE, VALID, EXPIRED]),
    (36, "a refresh token that was used", &[VALID, EXPIRED]),
    (37, "invalid_request and nothing else", &[VALID, EXPIRED]),
    (
        38,
        "temporarily_unavailable, by name or number",
        &[CODE, VALID, EXPIRED],
    ),
    (
        39,
        "400 and nothing else",
        &[
            CODE,
            VALID,
            EXPIRED,
            "core::account::the_same_refusal_without_an_explanation_is_told_once_at_the_fifth",
        ],
    ),
    (40, "a firewall's page", &[CODE, VALID, EXPIRED]),
    (41, "a captive portal's page", &[CODE, VALID, EXPIRED]),
    (42, "a captive portal's redirect", &[CODE, VALID, EXPIRED]),
    (
        43,
        "a redirect that repeats the request",
        &[CODE, VALID, EXPIRED],
    ),
    (44, "a proxy wants a password", &[CODE, VALID, EXPIRED]),
    (45, "too many requests, with Retry-After", &[VALID, EXPIRED]),
    (46, "a Retry-After that is a date", &[VALID, EXPIRED]),
    (47, "errors of a gateway", &[CODE, VALID, EXPIRED]),
    (48, "invalid_grant with status 500", &[CODE, VALID, EXPIRED]),
    (49, "the wrong address", &[CODE, VALID, EXPIRED]),
    (50, "an error that is an object", &[VALID, EXPIRED]),
    (51, "a list of errors", &[VALID, EXPIRED]),
    (
        52,
        "nothing was sent",
        &["tests::conformance::row_52_refused_connections_cost_nothing"],
    ),
    (53, "the reply to a refresh is lost", &[VALID, EXPIRED]),
    (54, "the reply to a code is lost", &[CODE]),
    (55, "half a reply", &[CODE, VALID, EXPIRED]),
    (56, "far too much of a reply", &[CODE, VALID, EXPIRED]),
    (57, "a timer and two users want a refresh", &[EXPIRED]),
    (58, "expired, and nothing but trouble", &[EXPIRED]),
    (
        59,
        "device: authorization_pending with 428",
        &[
            POLLS,
            "tests::anywhere::polling_slows_down_backs_off_and_goes_on",
        ],
    ),
    (
        60,
        "device: slow_down with 403",
        &[POLLS, "tests::anywhere::every_way_to_say_not_yet"],
    ),
    (
        61,
        "device: authorization_pending with 200",
        &[POLLS, "tests::anywhere::every_way_to_say_not_yet"],
    ),
    (
        62,
        "device: expired, declined, denied",
        &[
            POLLS,
            "tests::anywhere::a_refused_code_ends_the_sign_in_and_says_so",
            "tests::anywhere::an_expired_code_is_replaced_when_somebody_asks",
            "tests::anywhere::every_way_to_say_no",
        ],
    ),
    (
        63,
        "device: a code by other names",
        &["tests::anywhere::a_device_code_by_other_names"],
    ),
    (
        64,
        "a callback with the right iss",
        &["tests::conformance::rows_64_and_65_the_issuer_in_a_callback"],
    ),
    (
        65,
        "a callback with a wrong iss, or without the promised one",
        &[
            "tests::conformance::rows_64_and_65_the_issuer_in_a_callback",
            "tests::discovery::a_response_without_the_promised_iss_or_with_another_leaves_the_sign_in_pending",
        ],
    ),
    (
        66,
        "what browsers send of their own accord",
        &["tests::conformance::row_66_nothing_but_a_response_consumes_the_attempt"],
    ),
    (
        67,
        "a callback as a form",
        &["tests::conformance::row_67_a_response_may_be_posted"],
    ),
    (
        68,
        "a callback with an error",
        &["tests::conformance::row_68_an_error_in_a_callback"],
    ),
    (
        69,
        "a callback twice",
        &[
            "tests::conformance::row_69_a_callback_is_used_once",
            "tests::conformance::row_69_two_pages_wait_for_one_exchange",
        ],
    ),
    (
        70,
        "documents of an issuer that won't do",
        &[
            "tests::discovery::a_document_that_will_not_do_is_refused_with_the_reason",
            "tests::discovery::openid_connects_document_is_the_second_choice",
        ],
    ),
    (
        71,
        "replies to a registration",
        &[
            "tests::register::the_account_that_is_printed_signs_in",
            "tests::register::one_redirect_after_the_other_is_tried",
            "tests::register::what_can_not_be_is_an_error_that_says_what_to_do",
        ],
    ),
    (
        72,
        "replies to a revocation",
        &[
            "tests::anywhere::revoke_forgets_the_tokens_and_tells_the_provider_of_both",
            "tests::anywhere::a_provider_that_does_not_revoke_is_a_remark_and_the_tokens_are_forgotten_first",
            "tests::anywhere::a_revocation_endpoint_in_trouble_is_asked_again",
        ],
    ),
    (
        73,
        "a name with dead addresses and a good one",
        &["http::dead_addresses_cost_little_time"],
    ),
    (
        74,
        "a code, and a SYN or a TLS hello without an answer",
        &[
            "http::nothing_is_sent_before_there_is_a_connection",
            "tests::faults::a_code_outlives_an_endpoint_that_takes_connections_and_says_nothing",
        ],
    ),
    (75, "a gateway's Forbidden", &[CODE, VALID, EXPIRED]),
    (
        76,
        "Unauthorized, which may be the provider's word",
        &[
            CODE,
            VALID,
            EXPIRED,
            "core::account::words_that_are_no_error_code_are_believed_once_the_token_has_expired",
        ],
    ),
    (77, "Bad Request", &[CODE, VALID, EXPIRED]),
    (
        78,
        "device: a gateway's Forbidden",
        &["oauth::token::rows_75_to_79_words_that_are_no_error_code"],
    ),
    (
        83,
        "replies that are compressed",
        &[
            CODE,
            VALID,
            EXPIRED,
            "http::coding::a_bomb_is_no_longer_than_the_limit",
        ],
    ),
    (84, "expires_in in milliseconds", &[CODE, VALID, EXPIRED]),
    (85, "expires_at", &[CODE, VALID, EXPIRED]),
    (
        90,
        "ALL_PROXY names a SOCKS proxy, or none that can be used",
        &["tests::faults::a_proxy_is_used_or_refused"],
    ),
    (
        91,
        "certificates and trust stores that won't do",
        &[
            "tests::faults::certificates_are_checked",
            "tests::faults::a_trust_store_that_cannot_be_read_is_named",
        ],
    ),
    (
        94,
        "a sign-in that waits for an administrator",
        &[
            "tests::conformance::row_94_an_administrator_has_to_approve",
            "oauth::hints::an_administrator_gets_an_address",
        ],
    ),
    (
        95,
        "a sign-in that began with a device code",
        &[VALID, EXPIRED],
    ),
    (96, "BearerToken", &[CODE, VALID, EXPIRED]),
];

/// The faults around the daemon, and who shows that each is survived: in the simulator where time and
/// order matter, end to end everywhere.
const FAULTS: [(&str, &[&str]); 34] = [
    (
        "a name that doesn't resolve",
        &["tests::faults::a_name_that_does_not_resolve_costs_nothing"],
    ),
    (
        "connections refused",
        &["tests::conformance::row_52_refused_connections_cost_nothing"],
    ),
    (
        "connections reset, replies cut short, garbage, 12 MB",
        &[VALID, EXPIRED, SIM],
    ),
    (
        "an endpoint that hangs",
        &[
            "tests::faults::a_hanging_endpoint_keeps_nobody_else_waiting",
            "tests::faults::a_request_has_a_deadline",
        ],
    ),
    (
        "a byte now and then",
        &["tests::faults::a_request_has_a_deadline"],
    ),
    (
        "not TLS; certificates expired, self-signed, of another host",
        &["tests::faults::certificates_are_checked"],
    ),
    (
        "portals, proxies and every status",
        &[
            CODE,
            VALID,
            EXPIRED,
            "tests::faults::a_captive_portal_costs_nothing",
            "tests::promises::captive_portal",
        ],
    ),
    (
        "the provider's errors, with words that aren't safe",
        &[
            CODE,
            VALID,
            EXPIRED,
            "tests::promises::escape_sequences",
            "tests::flow::long_words_are_cut",
        ],
    ),
    (
        "token replies with every member spoilt",
        &[
            CODE,
            VALID,
            EXPIRED,
            "oauth::token::no_reply_makes_it_panic_or_say_anything_unsafe",
            "tests::corpus::every_kept_input_passes_its_oracle",
        ],
    ),
    (
        "a rotation whose reply is lost; reuse detected",
        &["tests::faults::a_lost_rotation_is_explained", SIM],
    ),
    (
        "two daemons with the same tokens",
        &["tests::faults::two_daemons_with_one_login_end_in_a_word_and_no_loop"],
    ),
    (
        "a full disk",
        &[
            "tests::famine::a_full_disk_costs_nothing_that_is_held",
            "tests::faults::a_dump_that_cannot_be_written_fails",
        ],
    ),
    (
        "files that must not grow",
        &["tests::faults::a_limit_on_files_ends_no_daemon"],
    ),
    (
        "calls that fail, are interrupted, are short",
        &["tests::famine::system_calls_may_fail"],
    ),
    (
        "a famine of descriptors",
        &[
            "tests::faults::a_famine_of_descriptors_is_survived",
            "tests::famine::a_code_outlives_a_famine_of_sockets_and_threads",
        ],
    ),
    (
        "a famine of processes and threads",
        &[
            "tests::famine::a_famine_of_processes_is_survived",
            "tests::famine::a_code_outlives_a_famine_of_sockets_and_threads",
        ],
    ),
    (
        "64 MiB of addresses",
        &["tests::faults::little_memory_is_enough"],
    ),
    (
        "the hook runner is killed",
        &[
            "tests::hooks::a_killed_hook_runner_is_replaced_and_the_order_kept",
            "tests::hooks::the_servers_processes_end_together",
        ],
    ),
    (
        "hooks that hang",
        &[
            "tests::hooks::nobody_waits_for_a_hook_that_hangs",
            "tests::hooks::a_hook_is_killed_at_its_deadline_when_nobody_ends_it",
        ],
    ),
    (
        "hooks that leave processes behind, flood their output, fail",
        &[
            "tests::hooks::a_hook_is_killed_with_all_its_children",
            "tests::hooks::a_hook_that_leaves_a_process_behind_holds_up_nobody",
            "tests::hooks::a_hook_that_floods_its_output_is_neither_stuck_nor_quoted_whole",
            "tests::hooks::a_hook_that_fails_is_logged_with_its_status_and_last_words",
        ],
    ),
    (
        "signals in every state",
        &["tests::faults::signals_in_every_state"],
    ),
    (
        "signals during a dump",
        &["tests::faults::a_dump_is_whole_or_an_error"],
    ),
    (
        "no core file",
        &[
            "tests::promises::no_core",
            "tests::faults::quit_leaves_no_core",
        ],
    ),
    (
        "socket, lock and directory vanish or are replaced",
        &[
            "tests::faults::a_runtime_directory_that_vanishes_is_made_again",
            "tests::faults::a_planted_directory_is_refused",
            "tests::faults::a_server_whose_place_was_taken_ends",
        ],
    ),
    (
        "something is mounted over the directory",
        &["tests::famine::a_mount_over_the_runtime_directory_is_noticed"],
    ),
    (
        "a full runtime directory",
        &["tests::famine::a_socket_that_cannot_be_made_again_is_made_later"],
    ),
    (
        "clocks that jump, suspend, late wake-ups",
        &[SIM, "core::three_days_asleep_cost_no_login"],
    ),
    (
        "reloads during a refresh, an exchange, a reminder; there and back",
        &[
            "tests::faults::reloads_during_an_exchange",
            "tests::faults::reloads_during_a_refresh",
            SIM,
            MODEL,
        ],
    ),
    (
        "hostile dumps",
        &[
            "tests::faults::hostile_dumps_change_nothing",
            "tests::persist::what_is_no_dump_is_refused_and_changes_nothing",
            "tests::corpus::every_kept_input_passes_its_oracle",
        ],
    ),
    (
        "another user at the socket",
        &[
            "tests::promises::other_uid",
            "tests::control::another_users_process_is_not_heard",
            "tests::promises::another_users_server",
        ],
    ),
    (
        "half requests by the thousand",
        &[
            "tests::faults::a_crowd_at_the_redirect_port_keeps_nobody_out",
            "tests::control::silence_costs_nobody_anything_and_is_given_up",
        ],
    ),
    (
        "a line without end",
        &["tests::faults::a_line_without_end_costs_no_memory"],
    ),
    (
        "somebody listens on the other loopback address",
        &["tests::promises::hijacked_localhost"],
    ),
    (
        "a directory that was made before, or is a link",
        &[
            "tests::cli::a_runtime_directory_that_others_could_enter_is_refused",
            "tests::faults::a_planted_directory_is_refused",
        ],
    ),
];

/// What guards the daemon and its secrets: the measure, and who shows that it is taken.
const MEASURES: [(&str, &[&str]); 30] = [
    (
        "a control socket that nobody can block or flood",
        &[
            "tests::control::silence_costs_nobody_anything_and_is_given_up",
            "tests::control::a_slow_reader_gets_all_and_holds_up_nobody",
            "serve::ten_thousand_requests_in_turn",
        ],
    ),
    (
        "a part of an answer is no answer, and unwritten output is an error",
        &[
            "tests::control::a_client_takes_no_part_of_an_answer_for_the_whole",
            "tests::cli::output_that_cannot_be_written_is_an_error",
            "tests::faults::a_dump_is_whole_or_an_error",
        ],
    ),
    (
        "a refresh ends in one of three ways",
        &[
            VALID,
            EXPIRED,
            "core::tests::a_parked_refresh_is_told_once_and_tried_again_after_a_reload",
            "core::tests::an_hour_of_trouble_is_told_once",
        ],
    ),
    (
        "replies are read leniently where that is safe",
        &[
            "oauth::token::rows_5_to_9_lifetimes",
            "oauth::token::duplicates_of_what_matters_are_refused",
            "oauth::token::no_reply_makes_it_panic_or_say_anything_unsafe",
        ],
    ),
    (
        "a floor under the rate of requests",
        &[
            "core::tests::no_one_gets_two_requests_within_the_floor",
            "core::tests::the_floor_outlives_a_changed_registration",
        ],
    ),
    (
        "requests to endpoints: no redirects, a deadline, a bounded reply",
        &[
            "tests::promises::captive_portal",
            "tests::faults::a_request_has_a_deadline",
            "oauth::token::rows_55_and_56_too_little_and_too_much",
            "tests::faults::proxies_are_for_elsewhere",
        ],
    ),
    (
        "TLS with the system's trust store, or the one that the environment names",
        &["tests::faults::certificates_are_checked"],
    ),
    (
        "PKCE, a state that is used once, a checked issuer",
        &[
            "tests::flow::the_authorization_request_has_all_that_the_rfcs_ask",
            "tests::conformance::rows_64_and_65_the_issuer_in_a_callback",
            "tests::conformance::row_69_a_callback_is_used_once",
            SIM,
        ],
    ),
    (
        "redirects arrive at the loopback only, on both of its addresses",
        &[
            "redirect::bind::a_loopback_host_is_both_addresses_on_one_port",
            "tests::promises::hijacked_localhost",
        ],
    ),
    (
        "the redirect port's bounds, headers and silence",
        &[
            "redirect::every_reply_is_guarded",
            "redirect::an_oversized_head_is_refused_and_cut",
            "tests::flow::another_host_is_misdirected",
            "tests::promises::hostile_web_page",
            "tests::promises::nothing_tells_strangers_what_is_pending",
        ],
    ),
    (
        "a socket directory of the user's own, checked at both ends",
        &[
            "tests::cli::a_runtime_directory_that_others_could_enter_is_refused",
            "tests::cli::the_client_trusts_no_socket_in_a_directory_that_others_could_enter",
            "tests::faults::a_planted_directory_is_refused",
        ],
    ),
    (
        "one daemon, whose socket comes back",
        &[
            "tests::promises::one_daemon",
            "tests::cli::a_stale_socket_is_replaced",
            "tests::faults::a_runtime_directory_that_vanishes_is_made_again",
            "tests::faults::a_server_whose_place_was_taken_ends",
        ],
    ),
    (
        "the other end's user, at both ends (root isn't answered at all)",
        &[
            "tests::promises::other_uid",
            "tests::promises::another_users_server",
        ],
    ),
    (
        "a start that is over when the daemon answers",
        &[
            "tests::cli::exit_0_means_that_it_answers_also_right_after_a_shutdown",
            "tests::cli::what_stops_a_start_is_said_before_it_detaches",
            "tests::cli::a_pipe_of_the_starting_command_ends_with_it",
        ],
    ),
    (
        "signals",
        &[
            "tests::faults::signals_in_every_state",
            "tests::faults::quit_leaves_no_core",
        ],
    ),
    (
        "a type for secrets, which know whose they are (src/secret.rs has examples that must not compile)",
        &[
            "secret::a_secret_belongs_to_one_registration_for_good",
            "secret::debug_is_redacted_and_equality_is_by_value",
            "http::a_secret_of_another_registration_goes_nowhere",
        ],
    ),
    (
        "memory that is wiped when it is freed",
        &["tests::promises::no_secret_in_memory_after_revoke"],
    ),
    (
        "no tracing, no core files",
        &["tests::promises::no_trace", "tests::promises::no_core"],
    ),
    (
        "hooks in a process of their own",
        &[
            "tests::hooks::a_hook_gets_a_clean_process_and_no_secret",
            "tests::hooks::a_hook_is_killed_with_all_its_children",
            "tests::hooks::token_events_come_one_at_a_time_and_in_order",
            "tests::promises::hooks_keep_their_rights",
            "tests::promises::the_runner_has_no_secret",
        ],
    ),
    (
        "no secret in an argument or a variable",
        &["tests::promises::no_secret_in_argv_or_environment"],
    ),
    (
        "what others say is made safe before anybody sees it",
        &[
            "tests::promises::escape_sequences",
            "text::control_and_bidi_characters_become_spaces",
            "tests::cli::the_log_says_as_much_as_was_asked_for_and_never_a_secret",
        ],
    ),
    (
        "a panic costs a job",
        &["tests::promises::panics_cost_a_job_and_no_token"],
    ),
    (
        "famines of descriptors, threads, processes and memory",
        &[
            "tests::faults::a_famine_of_descriptors_is_survived",
            "tests::famine::a_famine_of_processes_is_survived",
            "tests::famine::system_calls_may_fail",
            "tests::faults::little_memory_is_enough",
        ],
    ),
    (
        "dumps that are whole, unaltered, and their owner's (encrypting them is another program's work)",
        &[
            "core::dump::every_changed_or_missing_byte_is_noticed",
            "tests::promises::a_dump_in_a_file",
            "tests::faults::hostile_dumps_change_nothing",
            "tests::state::the_example_for_age_survives_a_reboot",
        ],
    ),
    (
        "a config that is checked as a whole",
        &[
            "tests::config::every_case_has_its_exact_outcome",
            "tests::config::a_file_may_be_as_large_as_it_says_and_no_larger",
            "tests::show::check_and_the_log_warn_of_a_secret_that_others_may_read",
            "tests::persist::a_config_with_an_error_changes_nothing",
            "tests::persist::listeners_that_would_move_are_said_to_need_a_new_start",
        ],
    ),
    (
        "a show that waits",
        &[
            "tests::show::who_waits_gets_the_token_of_the_one_sign_in",
            "tests::show::one_refresh_is_shared_by_all_who_wait_for_it",
        ],
    ),
    (
        "clocks that are set, and machines that sleep",
        &[
            "core::tests::three_days_asleep_cost_no_login",
            "core::tests::a_clock_that_was_set_back_makes_no_dump_newer_and_no_token_older",
            SIM,
        ],
    ),
    (
        "dependencies (deny.toml, Cargo.lock)",
        &["tests::tidy::every_dependency_says_what_it_is_for"],
    ),
    (
        "revocation at the provider",
        &["tests::discovery::revoke_finds_out_whom_to_tell"],
    ),
    (
        "the sandbox around the token holder",
        &[
            "tests::promises::an_intruder_gets_nowhere",
            "tests::promises::the_daemon_gains_no_privileges",
            "server::holder::sandbox::files_programs_ports_and_signals_are_given_up_and_nothing_else",
            "server::helper::capabilities::what_the_configuration_has_others_do_is_granted",
            "tests::restart::what_was_given_up_is_given_up_once",
        ],
    ),
];

/// Where the tests of a module may be written.
fn files_of(root: &Path, module: &str) -> Vec<PathBuf> {
    let path = match module.strip_prefix("tests::") {
        Some(file) => return vec![root.join(format!("tests/{file}.rs"))],
        None => module.replace("::", "/"),
    };
    let of = |suffix: &str| root.join(format!("src/{path}{suffix}.rs"));
    vec![of(""), of("/mod"), of("/tests")]
}

fn is_there(root: &Path, test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").expect("a module and a name");
    files_of(root, module).iter().any(|file| {
        let code = fs::read_to_string(file).unwrap_or_default();
        let mut parts = code.split("#[test]").skip(1);
        parts.any(|part| {
            let signature = part
                .lines()
                .find(|line| line.trim_start().starts_with("fn "));
            signature.is_some_and(|line| line.trim_start() == format!("fn {name}() {{"))
        })
    })
}

#[test]
fn every_row_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let replies = REPLIES.iter().map(|(_, what, tests)| (*what, *tests));
    for (what, tests) in replies.chain(FAULTS).chain(MEASURES) {
        assert!(!tests.is_empty(), "nothing proves: {what}");
        for test in tests {
            assert!(is_there(root, test), "{what}: there is no test {test}");
        }
    }
    let numbers: Vec<u32> = REPLIES.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers[..72], (1..=72).collect::<Vec<_>>());
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(!is_there(root, "tests::rows::no_such_test"));
}

/// A row that says that the tables of conformance.rs prove it is a case there, in just these tables.
#[test]
fn rows_of_token_replies_are_cases() {
    let (codes, refreshes) = conformance::rows();
    for (number, what, tests) in REPLIES {
        let among = |rows: &BTreeSet<u32>| rows.contains(&number);
        // These two are played beside the table.
        let beside = [57, 58].contains(&number);
        assert_eq!(tests.contains(&CODE), among(&codes), "{number}: {what}");
        if !beside {
            assert_eq!(
                tests.contains(&EXPIRED),
                among(&refreshes),
                "{number}: {what}"
            );
        }
    }
}
