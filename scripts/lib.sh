# shellcheck shell=bash
# Shared by the scripts here: say what is done, bring what is missing, stop what was started.
# Sourced, never run. Knows nothing of what the scripts are for.

say() { printf '\n== %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

# Installs a Debian package when a command is missing: need_command COMMAND [PACKAGE]
need_command() {
  command -v "$1" >/dev/null 2>&1 || need_package "${2:-$1}" "$1"
}

# Installs a Debian package: need_package PACKAGE [WHAT IS MISSING]
need_package() {
  local package=$1 missing=${2:-$1} as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "$missing is missing" "install the package $package, or run this as root"
    as_root=(sudo -n)
  fi
  command -v apt-get >/dev/null 2>&1 || fail "$missing is missing" "install it; on Debian the package is $package"
  say "installing $package"
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >/dev/null 2>&1; then
    "${as_root[@]}" apt-get update -q >/dev/null || fail "cannot update the list of packages" "is the network up?"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >/dev/null \
      || fail "cannot install $package" "install it by hand and run this again"
  fi
}

# As need_command, but goes on without it: for what only some machines can have.
try_command() { (need_command "$@") || { printf 'going on without %s\n' "$1" >&2; return 1; }; }

# Brings Node packages exactly as a folder's package-lock.json says: node_packages FOLDER HOME
node_packages() {
  local from=$1 home=$2 wanted
  need_command node nodejs
  need_command npm
  wanted=$(node --version; cat "$from/package-lock.json")
  if [ "$(cat "$home/made-of" 2>/dev/null)" != "$wanted" ]; then
    say "installing the Node packages of $from/package.json"
    rm -rf "$home"
    mkdir -p "$home"
    cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$home"
    (cd "$home" && npm ci --silent) || fail "cannot install the Node packages" "is the network up?"
    printf '%s' "$wanted" >"$home/made-of"
  fi
}

# Brings Google's Node clients beside a copy of the checks that use them. Sets STRONGROOM_NODE, the directory of both.
node_clients() {
  local home=${XDG_CACHE_HOME:-$HOME/.cache}/strongroom-node
  node_packages tests/node "$home"
  cp tests/node/*.mjs "$home"
  export STRONGROOM_NODE=$home
}

# Brings Playwright and axe for the tests of the dashboard, beside a copy of what they are to do. Sets STRONGROOM_PLAYWRIGHT,
# by which the tests know them: without it they would say that they skip.
browser_driver() {
  local home=${XDG_CACHE_HOME:-$HOME/.cache}/strongroom-browser
  node_packages tests/browser "$home"
  cp tests/browser/dashboard.mjs "$home"
  export STRONGROOM_PLAYWRIGHT=$home
}

# Brings Microsoft's double of Azure Blob Storage. Sets STRONGROOM_AZURITE, by which the tests know it: without it they
# would say that they skip.
azurite() {
  local home=${XDG_CACHE_HOME:-$HOME/.cache}/strongroom-azurite
  node_packages tests/azurite "$home"
  export STRONGROOM_AZURITE=$home
}

# A PostgreSQL server for the tests, which start their own; Debian puts it beside PATH.
need_postgres() {
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need_package postgresql "PostgreSQL's server"
}

# Rust itself is expected; a C compiler is what some of the dependencies are built with.
need_rust() {
  if ! command -v cargo >/dev/null 2>&1 && [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    # shellcheck disable=SC1091
    . "${CARGO_HOME:-$HOME/.cargo}/env"
  fi
  command -v cargo >/dev/null 2>&1 || fail "cargo is missing" "install Rust 1.95 or newer with rustup"
  need_command cc build-essential
}

# Brings Python with exactly the packages of tests/requirements.txt, in an environment of its own: nothing that happens to
# be on the machine counts. Sets STRONGROOM_PYTHON, by which the tests know it: without it they would say that they skip.
python_venv() {
  local home=${XDG_CACHE_HOME:-$HOME/.cache}/strongroom-python wanted
  need_command python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || need_package python3-venv "Python's venv"
  wanted=$(python3 --version; cat tests/requirements.txt)
  if [ "$(cat "$home/made-of" 2>/dev/null)" != "$wanted" ]; then
    say "installing the Python packages of tests/requirements.txt"
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt \
      || fail "cannot install the Python packages" "is the network up?"
    printf '%s' "$wanted" >"$home/made-of"
  fi
  export STRONGROOM_PYTHON=$home/bin/python
}

# A browser that shows pages without a screen, for the tests of the report: exports STRONGROOM_CHROMIUM.
need_browser() {
  local name
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && break
    name=
  done
  if [ -z "$name" ]; then
    name=chromium-headless-shell
    try_command "$name" || return 0 # not every Debian has it: the tests say then that they skip
  fi
  STRONGROOM_CHROMIUM=$(command -v "$name")
  export STRONGROOM_CHROMIUM
}

# Runs the tests, each in a process of its own. The runner is built once, which takes minutes; where that cannot be
# done (no network), cargo's own runner does.
run_tests() {
  if ! cargo nextest --version >/dev/null 2>&1; then
    say "installing cargo-nextest"
    cargo install cargo-nextest --locked --quiet || { cargo test --locked --all-targets -- "$@"; return; }
  fi
  cargo nextest run --locked --all-targets --no-tests=warn "$@"
}

# Runs drills one after the other: run_drills FOLDER SCENARIO...; returns the first code that is neither 0 nor 9, or
# else the greatest. A drill that fails does not keep the others from being run.
run_drills() {
  local folder=$1 scenario code worst=0 lines=()
  shift
  for scenario in "$@"; do
    say "drill: $scenario"
    mkdir -p "$folder/$scenario"
    code=0
    "${STRONGROOM:-strongroom}" --quiet drill --scenario "$scenario" --report-dir "$folder/$scenario" \
      >"$folder/$scenario/report.txt" || code=$?
    case $code in
      0) lines+=("$(printf '%-22s passed' "$scenario")") ;;
      9) lines+=("$(printf '%-22s passed, an objective was missed' "$scenario")") ;;
      4) lines+=("$(printf '%-22s REFUSED: not set up, nothing was done' "$scenario")") ;;
      *) lines+=("$(printf '%-22s FAILED (exit code %d)' "$scenario" "$code")") ;;
    esac
    case $worst in 0 | 9) [ "$code" = 0 ] || worst=$code ;; esac
  done
  say "drills of $(date -u +%Y-%m-%d), reports in $folder"
  printf '%s\n' "${lines[@]}"
  return "$worst"
}

# The directory that cargo builds into.
target_dir() { printf '%s' "${CARGO_TARGET_DIR:-target}"; }

# Milliseconds since the epoch.
now_ms() { date +%s%3N; }

# Starts a sandbox: start_sandbox LOG ARGUMENT...; sets sandbox_pid and sandbox_url. Ready means: it said so.
start_sandbox() {
  local log=$1
  shift
  : >"$log" # there before it is read
  "$(target_dir)/debug/strongroom-sandbox" "$@" >"$log" 2>"$log.err" </dev/null &
  sandbox_pid=$!
  sandbox_url=
  local waited=0
  while [ -z "$sandbox_url" ]; do
    sandbox_url=$(sed -n 's/^strongroom-sandbox listening on \(http:.*\)$/\1/p' "$log")
    [ -n "$sandbox_url" ] && break
    kill -0 "$sandbox_pid" 2>/dev/null || { cat "$log" "$log.err" >&2; fail "the sandbox ended before it was ready"; }
    [ "$waited" -lt 1800 ] || { cat "$log.err" >&2; stop_sandbox; fail "the sandbox was not ready after 180 s"; }
    sleep 0.1
    waited=$((waited + 1))
  done
}

# Stops the sandbox that start_sandbox started, by its process id.
stop_sandbox() {
  [ -n "${sandbox_pid:-}" ] || return 0
  kill "$sandbox_pid" 2>/dev/null || true
  wait "$sandbox_pid" 2>/dev/null || true
  sandbox_pid=
}
