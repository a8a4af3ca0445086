# The targets: all (or build), demo, test, check, cross, sim, sim-canaries, model, mutants, soak, asan, memcheck,
# fuzz, browser, acceptance, bench, install, install-systemd, uninstall, distrib, clean.
# Both GNU make and BSD make read this file.

CARGO ?= cargo
INSTALL ?= install
PREFIX ?= /usr/local
# For packagers: everything goes below it, and nothing that is installed names it.
DESTDIR ?=

BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
SHAREDIR ?= $(PREFIX)/share
MANDIR ?= $(SHAREDIR)/man
DOCDIR ?= $(SHAREDIR)/doc/pizauth
EXAMPLESDIR ?= $(SHAREDIR)/examples
BASHDIR ?= $(SHAREDIR)/bash-completion/completions
ZSHDIR ?= $(SHAREDIR)/zsh/site-functions
FISHDIR ?= $(SHAREDIR)/fish/vendor_completions.d
# Whether `install` does what install-systemd does: yes or no; without it, on Linux.
USESYSTEMD ?=
# Below a home, systemd looks into share, not lib. The shell says which it is.
UNITDIR ?= $$(case '$(PREFIX)' in ("$${HOME:-/-}"/*) echo '$(SHAREDIR)' ;; (*) echo '$(LIBDIR)' ;; esac)/systemd/user

# What cargo builds, as packagers who build for another target rewrite it.
BINARY = target/release/pizauth
# The shell's $binary: the same, where cargo's target directory is another.
FIND_BINARY = binary='$(BINARY)'; \
	[ -z "$$CARGO_TARGET_DIR" ] || binary="$$CARGO_TARGET_DIR/$${binary\#target/}"

MANPAGES = pizauth.1 pizauth.conf.5 pizauth.sock.7
BASH_COMPLETION = share/bash/completion.bash
ZSH_COMPLETION = share/zsh/_pizauth
FISH_COMPLETION = share/fish/pizauth.fish
UNIT = lib/systemd/user/pizauth.service
SOCKET_UNIT = lib/systemd/user/pizauth.socket
PLIST = lib/launchd/pizauth.plist
DOCS = README.md SECURITY.md CHANGES.md LICENSE-APACHE LICENSE-MIT
# What users are to copy; the demo isn't.
EXAMPLES = examples/pizauth.conf examples/beyond-mail examples/clients examples/desktop examples/hooks \
	examples/import examples/persistence examples/providers examples/services examples/statusbars
SCRIPTS = examples/*.sh tests/*.sh tests/acceptance/postfix tests/acceptance/run tests/acceptance/trixie \
	tests/acceptance/world tests/acceptance/lib.bash tests/acceptance/journeys/*.sh examples/hooks/*.sh examples/persistence/*.sh \
	examples/services/runit/run examples/services/xsession examples/statusbars/*.sh \
	examples/beyond-mail/docker-credential-pizauth examples/clients/*/*.sh examples/import/*.sh .ci/run

# Which systems `cross` checks; without it, all that have branches of their own.
TARGETS =

# The simulation's seed and number of steps; without them it chooses.
SEED =
STEPS =
# How long a soak takes: so many minutes of real time, or so many years of the simulator's.
MINUTES = 10
YEARS =
# How many of the server's processes it kills.
KILLS =
# How many events in a row the model tries in every order.
DEPTH = 6

# In which files mutants are tried; without it, the core's accounts and schedule, and replies.
FILES =

# Which journeys of the acceptance tests; without it, all.
JOURNEYS =

# How long each fuzz target runs, in seconds, and which.
TIME = 60
FUZZ = client_reply config control_frame dump handover hook_order http_request mail_accept \
	mail_session peer_line provider_document redirect_query step_sequence stored_state token_response
# What libFuzzer needs to see where an input goes; a stable compiler knows it.
COVERAGE = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1

.PHONY: all build demo test check lint lint-rust lint-man lint-shell cross sim sim-canaries model mutants asan \
	memcheck fuzz browser acceptance soak bench bloat install install-systemd uninstall distrib clean
# A check's last words are those of the tests.
.NOTPARALLEL:

all: build

build:
	$(CARGO) build --locked --release

# A sign-in from start to end on this machine alone; OPEN=1 uses your own browser.
demo:
	@OPEN='$(OPEN)' examples/demo.sh

# Most tests wait for a daemon most of the time, so more run at once than there are cores.
test:
	$(CARGO) test --locked -- --test-threads=8

check: lint test

lint: lint-rust lint-man lint-shell

lint-rust:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# Without mandoc (shellcheck, zsh, fish) there is nothing to say, except where CI is set.
lint-man:
	@if command -v mandoc >/dev/null; then \
		echo mandoc -Tlint -Wwarning $(MANPAGES); \
		mandoc -Tlint -Wwarning $(MANPAGES); \
	else \
		echo 'mandoc is missing: the man pages are not checked' >&2; [ -z "$$CI" ]; \
	fi

lint-shell:
	@if command -v shellcheck >/dev/null; then \
		echo shellcheck -x $(SCRIPTS) $(BASH_COMPLETION); \
		shellcheck -x $(SCRIPTS) && shellcheck --shell=bash $(BASH_COMPLETION); \
	else \
		echo 'shellcheck is missing: the scripts are not checked' >&2; [ -z "$$CI" ]; \
	fi
	@for shell in zsh fish; do \
		case $$shell in zsh) file=$(ZSH_COMPLETION) ;; fish) file=$(FISH_COMPLETION) ;; esac; \
		if command -v $$shell >/dev/null; then \
			echo $$shell -n $$file; $$shell -n $$file || exit 1; \
		else \
			echo "$$shell is missing: its completion is not checked" >&2; \
			[ -z "$$CI" ] || exit 1; \
		fi; \
	done

# Whether it compiles for OpenBSD, FreeBSD, NetBSD, macOS, musl and 32 bits; with std's source (rust-src).
cross:
	@CARGO='$(CARGO)' TARGETS='$(TARGETS)' tests/cross.sh

sim:
	@[ -z '$(SEED)' ] || export PIZAUTH_SIM_SEED='$(SEED)'; \
	[ -z '$(STEPS)' ] || export PIZAUTH_SIM_STEPS='$(STEPS)'; \
	$(CARGO) test --locked --profile sim --lib core::sim::every_promise -- --nocapture

# Whether the simulator finds the bugs that it must find.
sim-canaries:
	$(CARGO) test --locked --profile sim --lib core::sim::every_planted_bug -- --nocapture

model:
	PIZAUTH_MODEL_DEPTH='$(DEPTH)' $(CARGO) test --locked --profile sim --lib core::model -- --nocapture

# Which small faults the tests of the core would miss: fails above one in ten. With cargo-mutants.
mutants:
	@CARGO='$(CARGO)' tests/mutants.py $(FILES)

# The tests with AddressSanitizer, which a stable compiler knows, too; and a server's life under valgrind.
# Left out are those that measure memory, locks on it and limits: the sanitizer has its own.
asan:
	host=$$(rustc -vV | sed -n 's/^host: //p'); \
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 \
		$(CARGO) test --locked --target "$$host" --target-dir target/asan --lib --test blackbox \
		-- --test-threads=4 --skip a_crowd_at_the_redirect_port --skip little_memory_is_enough \
		--skip hooks_keep_their_rights --skip secrets_are_locked

memcheck:
	$(CARGO) build --locked --target-dir target/memcheck
	@tests/memcheck.sh target/memcheck/debug/pizauth

# With the very versions of Cargo.lock, and libFuzzer added to them.
# The corpus is only read: what is found goes below fuzz/target, what breaks to fuzz/artifacts.
fuzz:
	failed=; host=$$(rustc -vV | sed -n 's/^host: //p'); dir="$${CARGO_TARGET_DIR:-fuzz/target}"; \
	cp Cargo.lock fuzz/Cargo.lock && \
	RUSTFLAGS='$(COVERAGE)' $(CARGO) build --release --manifest-path fuzz/Cargo.toml \
		--target "$$host" --target-dir "$$dir/fuzz" || exit 1; \
	for target in $(FUZZ); do \
		found="$$dir/found/$$target"; \
		mkdir -p "$$found" fuzz/artifacts; \
		echo "fuzzing $$target for $(TIME) s"; \
		"$$dir/fuzz/$$host/release/$$target" -max_total_time=$(TIME) -timeout=10 -rss_limit_mb=1024 \
			-print_final_stats=1 -artifact_prefix="fuzz/artifacts/$$target-" \
			"$$found" "fuzz/corpus/$$target" 2>"$$dir/found/$$target.log" || \
			{ tail -n 40 "$$dir/found/$$target.log"; failed="$$failed $$target"; }; \
		sed -n '/stat::number_of_executed_units/p; /DONE/p' "$$dir/found/$$target.log"; \
	done; \
	[ -z "$$failed" ] || { echo "broken:$$failed" >&2; exit 1; }

# A sign-in in a headless Chromium; with SHOTS=directory it leaves screenshots there.
browser:
	@SHOTS='$(SHOTS)' tests/browser.sh

# With real mail programs, a real mail server and a real authorization server, as far as they are here
# (where CI is set, they are installed). JOURNEYS=10 takes those whose names start so.
acceptance:
	@tests/acceptance/run $(JOURNEYS)

# Two hundred accounts and a fault a second: nothing is lost and nothing grows. With KILLS, the server's
# processes are killed so often instead.
soak:
	@if [ -n '$(YEARS)' ]; then \
		[ -z '$(SEED)' ] || export PIZAUTH_SIM_SEED='$(SEED)'; \
		PIZAUTH_SIM_YEARS='$(YEARS)' $(CARGO) test --locked --release --lib \
			core::sim::years -- --nocapture; \
	elif [ -n '$(KILLS)' ]; then \
		KILLS='$(KILLS)' SEED='$(SEED)' $(CARGO) test --locked --release --test blackbox \
			kills:: -- --ignored --nocapture; \
	else \
		MINUTES='$(MINUTES)' SEED='$(SEED)' $(CARGO) test --locked --release --test blackbox \
			soak:: -- --ignored --nocapture; \
	fi

bench:
	$(CARGO) bench --locked

# What in the binary costs most, by crate.
bloat:
	CARGO_PROFILE_RELEASE_STRIP=false $(CARGO) build --locked --release --target-dir target/bloat
	python3 benches/bloat.py target/bloat/release/pizauth

# Takes what `make` has built, and builds only where nothing is built: root may have no compiler.
install:
	@$(FIND_BINARY); if [ ! -x "$$binary" ]; then \
		command -v $(CARGO) >/dev/null || \
			{ echo 'there is no $(CARGO) here: run make first' >&2; exit 1; }; \
		$(CARGO) build --locked --release; \
	fi
	$(INSTALL) -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(BASHDIR)' \
		'$(DESTDIR)$(ZSHDIR)' '$(DESTDIR)$(FISHDIR)' '$(DESTDIR)$(EXAMPLESDIR)/pizauth/services'
	@$(FIND_BINARY); $(INSTALL) -m 755 "$$binary" '$(DESTDIR)$(BINDIR)/pizauth'
	for page in $(MANPAGES); do \
		dir='$(DESTDIR)$(MANDIR)'/man$${page##*.}; \
		$(INSTALL) -d "$$dir" && $(INSTALL) -m 644 "$$page" "$$dir/$$page" || exit 1; \
	done
	$(INSTALL) -m 644 $(DOCS) '$(DESTDIR)$(DOCDIR)'
	$(INSTALL) -m 644 $(BASH_COMPLETION) '$(DESTDIR)$(BASHDIR)/pizauth'
	$(INSTALL) -m 644 $(ZSH_COMPLETION) '$(DESTDIR)$(ZSHDIR)/_pizauth'
	$(INSTALL) -m 644 $(FISH_COMPLETION) '$(DESTDIR)$(FISHDIR)/pizauth.fish'
	find $(EXAMPLES) -type f | while read -r file; do \
		dir='$(DESTDIR)$(EXAMPLESDIR)/pizauth'/$$(dirname "$${file#examples/}"); \
		if [ -x "$$file" ]; then mode=755; else mode=644; fi; \
		$(INSTALL) -d "$$dir" && $(INSTALL) -m $$mode "$$file" "$$dir" || exit 1; \
	done
	sed 's|/usr/local/bin/|$(BINDIR)/|' $(PLIST) >'$(DESTDIR)$(EXAMPLESDIR)/pizauth/services/pizauth.plist'
	chmod 644 '$(DESTDIR)$(EXAMPLESDIR)/pizauth/services/pizauth.plist'
	@use='$(USESYSTEMD)'; case "$${use:-$$(uname -s)}" in \
		[Yy]* | 1 | true | Linux) $(MAKE) install-systemd ;; \
	esac

install-systemd:
	$(INSTALL) -d "$(DESTDIR)$(UNITDIR)"
	sed 's|/usr/bin/|$(BINDIR)/|' $(UNIT) >"$(DESTDIR)$(UNITDIR)/pizauth.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/pizauth.service"
	$(INSTALL) -m 644 $(SOCKET_UNIT) "$(DESTDIR)$(UNITDIR)/pizauth.socket"

# Takes away what this version installs; directories that others may share stay.
uninstall:
	for page in $(MANPAGES); do rm -f '$(DESTDIR)$(MANDIR)'/man$${page##*.}/$$page || exit 1; done
	for file in $(DOCS); do rm -f '$(DESTDIR)$(DOCDIR)'/$$file || exit 1; done
	find $(EXAMPLES) -type f | while read -r file; do \
		rm -f '$(DESTDIR)$(EXAMPLESDIR)/pizauth'/"$${file#examples/}" || exit 1; \
	done
	rm -f '$(DESTDIR)$(EXAMPLESDIR)/pizauth/services/pizauth.plist'
	for dir in '$(DESTDIR)$(EXAMPLESDIR)/pizauth' '$(DESTDIR)$(DOCDIR)'; do \
		[ ! -d "$$dir" ] || find "$$dir" -depth -type d -exec rmdir {} \; 2>/dev/null || :; \
	done
	rm -f '$(DESTDIR)$(BINDIR)/pizauth' '$(DESTDIR)$(BASHDIR)/pizauth' \
		'$(DESTDIR)$(ZSHDIR)/_pizauth' '$(DESTDIR)$(FISHDIR)/pizauth.fish' \
		"$(DESTDIR)$(UNITDIR)/pizauth.service" "$(DESTDIR)$(UNITDIR)/pizauth.socket"

# The source as one file, of the commit that is checked out.
distrib:
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml); \
	git archive --prefix="pizauth-$$version/" --output="pizauth-$$version.tar.gz" HEAD

clean:
	$(CARGO) clean
