#!/usr/bin/env bash
#
# tests/newcomer/debootstrap.sh - what a newcomer on a fresh Debian meets. By hand, as root, not in CI.
#
# For each suite: a minimal Debian in a folder of its own, a clone of this checkout in it, and there the
# README's two commands: `./zigw build test` and `./zigw build run`. The second one runs on a terminal (script)
# until region.json is there; then the ssh and scp lines that it printed are used as they stand, Ctrl-C is typed,
# and nothing may be left. Where the suite's OpenSSH knows mlkem768x25519-sha256, one login uses it.
#
# The Debian has this machine's way out: its mirrors (asked of apt), resolver, CA certificates, and settings of
# pip, Go and proxies. Everything runs in a mount and pid namespace of its own: when that ends, however it ends, the
# kernel removes its mounts and processes. The network is the machine's.
#
set -euo pipefail

usage() {
  cat <<'END'
usage: tests/newcomer/debootstrap.sh [options]          (as root)
  --suite NAME      bookworm, trixie, ...; may be repeated (default: bookworm and trixie; one that the
                    mirror lacks is skipped, and said so; one that was named is an error then)
  --dir DIR         work in DIR/SUITE and keep it (default: a mktemp -d folder, removed at the end)
  --mirror URL      the mirror (default: the one of this machine's apt that has the suite)
  --skip-test       only `./zigw build run`, not `./zigw build test`
  --only-bootstrap  stop after the Debian and its apt-get update
  --test-s SECONDS  limit of `./zigw build test` (default 5400)
  --build-s SECONDS limit until `./zigw build run` answers (default 1800)
Exit status: 0 all well, 1 something failed, 2 usage or this machine cannot.
END
}

say() { printf '== %s\n' "$*"; }
complain() { printf '== FAILED: %s\n' "$*"; }
fail() { complain "$@"; exit 1; } # ends the suite, or the subshell that a part of it runs in
die() { printf 'debootstrap.sh: %s\n' "$*" >&2; exit 2; }

self=$(readlink -f "${BASH_SOURCE[0]}")
checkout=${self%/tests/newcomer/*}

# --- outside: options, mirror, folder ---

mirror_sites() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u; }

# mirror_has SITE RELEASE
mirror_has() {
  /usr/lib/apt/apt-helper download-file "${1%/}/dists/$2/Release" "$scratch/release" >/dev/null 2>&1 &&
    [ -s "$scratch/release" ]
}

find_mirror() {
  local site
  for site in ${mirror:-$(mirror_sites)}; do
    if mirror_has "$site" "$1"; then printf %s "${site%/}"; return; fi
  done
  return 1
}

end() {
  local status=$?
  trap - EXIT
  [ -z "${inner:-}" ] || { kill -KILL "$inner" 2>/dev/null && wait "$inner" 2>/dev/null; } || true
  [ -z "${scratch:-}" ] || rm -rf --one-file-system "$scratch"
  exit "$status"
}

outer() {
  local suites=() named=false dir='' mirror='' flags=() suite site base failed=() passed=() skipped=()
  while [ $# -gt 0 ]; do
    case $1 in
      --suite | --dir | --mirror | --test-s | --build-s) [ $# -gt 1 ] || die "$1 needs a value" ;;
    esac
    case $1 in
      --suite) suites+=("$2") named=true; shift ;;
      --dir) dir=$2; shift ;;
      --mirror) mirror=$2; shift ;;
      --test-s) export NEWCOMER_TEST_S=$2; shift ;;
      --build-s) export NEWCOMER_BUILD_S=$2; shift ;;
      --skip-test) flags+=(skip-test) ;;
      --only-bootstrap) flags+=(only-bootstrap) ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; die "unknown option $1" ;;
    esac
    shift
  done
  [ ${#suites[@]} -gt 0 ] || suites=(bookworm trixie)
  [ "$(id -u)" = 0 ] || die "needs root (debootstrap, chroot)"
  for tool in debootstrap unshare git apt-get; do
    command -v "$tool" >/dev/null || die "$tool is missing; apt-get install $tool"
  done
  [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || die "apt-get install debian-archive-keyring"

  scratch=$(mktemp -d "${TMPDIR:-/tmp}/ringgate-newcomer.XXXXXX")
  trap end EXIT
  trap 'exit 130' INT TERM HUP
  base=$scratch
  if [ -n "$dir" ]; then mkdir -p "$dir"; base=$(cd "$dir" && pwd); fi

  for suite in "${suites[@]}"; do
    if ! site=$(find_mirror "$suite"); then
      say "$suite: no mirror of this machine has it"
      if $named; then failed+=("$suite"); else skipped+=("$suite"); fi
      continue
    fi
    say "$suite: from $site"
    mkdir -p "$base/$suite"
    # In the background, so that a signal reaches this shell at once; --kill-child ends the whole namespace.
    unshare --mount --propagation private --pid --fork --kill-child \
      bash "$self" --inside "$suite" "$site" "$base/$suite" "${flags[@]}" </dev/null &
    inner=$!
    if wait "$inner"; then passed+=("$suite"); else failed+=("$suite"); fi
    inner=''
    [ -n "$dir" ] || rm -rf --one-file-system "${base:?}/$suite"
    if grep -q " $base/$suite/" /proc/self/mounts; then complain "mounts are left"; failed+=("$suite-mounts"); fi
  done
  say "passed: ${passed[*]:-none}; failed: ${failed[*]:-none}; not on the mirror: ${skipped[*]:-none}"
  [ ${#failed[@]} -eq 0 ] && [ ${#passed[@]} -gt 0 ]
}

# --- inside the namespaces ---

bootstrap() {
  if [ -e "$root/etc/debian_version" ] && [ ! -e "$root/debootstrap" ]; then
    say "$suite: the Debian in $root is there already"
    return
  fi
  local proxy=''
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [ -z "$proxy" ] || export http_proxy=$proxy
  say "$suite: debootstrap --variant=minbase"
  debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    "$suite" "$root" "$site" >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log"
    fail "debootstrap; its log: $work/debootstrap.log"
  }
}

# The mirrors, with this suite in place of the machine's own.
write_sources() {
  local codename site release component
  codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
  : >"$root/etc/apt/sources.list"
  rm -f "$root"/etc/apt/sources.list.d/*
  printf 'deb %s %s main\n' "$1" "$suite" >"$root/etc/apt/sources.list"
  apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
    sort -u | while read -r site release component; do
    [ "$component" = main ] || continue
    release=${release/#$codename/$suite}
    [ "$release" != "$suite" ] || continue
    if mirror_has "$site" "$release"; then
      printf 'deb %s %s main\n' "$site" "$release" >>"$root/etc/apt/sources.list"
    else
      say "$suite: the mirror has no $release"
    fi
  done
}

copy_machine() {
  local file
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  # What says how to reach a mirror, not the hooks of programs that are not there.
  for file in /etc/apt/apt.conf.d/* /etc/apt/apt.conf; do
    [ -f "$file" ] && grep -q 'Acquire' "$file" && ! grep -qE 'Invoke|Update-|AptCli|DPkg' "$file" || continue
    mkdir -p "$root/etc/apt/apt.conf.d"
    cp "$file" "$root/etc/apt/apt.conf.d/"
  done
  [ ! -d /etc/apt/auth.conf.d ] || cp -a /etc/apt/auth.conf.d "$root/etc/apt/"
  [ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$root/etc/"
  # ca-certificates comes with the packages later; it takes a machine's own ones from here.
  mkdir -p "$root/usr/local/share/ca-certificates" "$root/etc/ssl/certs"
  cp -RL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
  [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}

# The variables by which programs reach registries, as NAME=VALUE in the array machine_env.
collect_env() {
  local line
  machine_env=()
  while IFS= read -r line; do
    case $line in
      PIP_FIND_LINKS=* | PIP_CONFIG_FILE=* | PIP_TARGET=*) ;;
      PIP_*=* | [Hh][Tt][Tt][Pp]_[Pp]*=* | [Hh][Tt][Tt][Pp][Ss]_[Pp]*=* | [Nn][Oo]_[Pp][Rr]*=* | SSL_CERT_*=* | \
        CURL_CA_BUNDLE=* | REQUESTS_CA_BUNDLE=* | GIT_SSL_CAINFO=* | GOPROXY=* | GOSUMDB=* | GONOSUMDB=* | \
        GONOSUMCHECK=* | GOFLAGS=*) machine_env+=("$line") ;;
    esac
  done < <(env)
}

# in_debian SECONDS COMMAND...: as root of the new Debian, in its clone of the project
in_debian() {
  local limit=$1; shift
  timeout -k 10 "$limit" env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${machine_env[@]}" \
    chroot "$root" /bin/sh -c 'cd /root/ringgate 2>/dev/null || cd /; exec "$@"' sh "$@"
}

enter() {
  local where
  for where in proc dev sys; do mkdir -p "$root/$where"; done
  mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
  mountpoint -q "$root/dev" || mount --rbind /dev "$root/dev"
  mountpoint -q "$root/sys" || mount --rbind /sys "$root/sys"
}

# Processes that live in the Debian: all of this pid namespace whose root is there.
inhabitants() {
  local pid place
  for pid in "$root"/proc/[0-9]*; do
    pid=${pid##*/}
    place=$(readlink "$root/proc/$pid/root" 2>/dev/null) || continue
    [ "$place" != "$root" ] || printf '%s %s\n' "$pid" "$(tr '\0' ' ' <"$root/proc/$pid/cmdline" 2>/dev/null)"
  done
}

check_nobody_left() {
  local left tries
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    left=$(inhabitants)
    [ -n "$left" ] || return 0
    sleep 0.5
  done
  printf '%s\n' "$left"
  complain "$suite: processes are left after $1"
  return 1
}

# printed PROGRAM: the line that `./zigw build run` printed, for the first sandbox
printed() {
  tr -d '\r' <"$work/run.log" |
    awk -v program="$1" '$1 == program && /IdentitiesOnly/ && !seen { sub(/^ +/, ""); print; seen = 1 } END { exit !seen }'
}

candidate() { in_debian 60 apt-cache policy "$1" | sed -n 's/.*Candidate: //p'; }
ssh_version() { in_debian 10 ssh -V 2>&1; }

use_it() {
  local ssh scp options target got
  ssh=$(printed ssh) || fail "no ssh line was printed"
  scp=$(printed scp) || fail "no scp line was printed"
  say "$suite: $(ssh_version)"
  say "$suite: \$ $ssh 'cat /etc/debian_version; pwd'"
  in_debian 60 sh -c "$ssh 'cat /etc/debian_version; pwd'" </dev/null || fail "$suite: the exec"
  got=$(in_debian 60 sh -c "$ssh 'echo out; exit 7'; echo \$?" </dev/null)
  [ "$got" = $'out\n7' ] || fail "$suite: 'echo out; exit 7' gave: $got"

  in_debian 60 sh -c 'head -c 67108864 /dev/urandom >/root/FILE'
  say "$suite: \$ $scp        (64 MiB of random bytes), and back"
  in_debian 120 sh -c "cd /root && $scp" </dev/null || fail "$suite: scp up"
  target=${scp##* }
  options=${scp% FILE *}
  in_debian 120 sh -c "cd /root && rm -f BACK && $options ${target}FILE BACK" </dev/null || fail "$suite: scp down"
  in_debian 60 cmp /root/FILE /root/BACK || fail "$suite: what came back is not what went up"
  say "$suite: equal in both directions"

  if in_debian 10 ssh -Q kex | grep -x mlkem768x25519-sha256 >/dev/null; then
    say "$suite: \$ ${ssh/#ssh/ssh -v -o KexAlgorithms=mlkem768x25519-sha256} true"
    in_debian 60 sh -c "${ssh/#ssh/ssh -v -o KexAlgorithms=mlkem768x25519-sha256} true" </dev/null \
      >"$work/mlkem.log" 2>&1 || { cat "$work/mlkem.log"; fail "$suite: the login with mlkem768x25519-sha256"; }
    tr -d '\r' <"$work/mlkem.log" | grep -E '^debug1: (Remote protocol version|kex: algorithm|kex: host key|kex: server->client)' || true
    tr -d '\r' <"$work/mlkem.log" | grep 'kex: algorithm: mlkem768x25519-sha256' >/dev/null ||
      fail "$suite: mlkem768x25519-sha256 was not negotiated"
  else
    say "$suite: its ssh does not know mlkem768x25519-sha256"
  fi
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

run_it() {
  local command='./zigw build run' region=$root/root/ringgate/.ringgate/region.json started terminal status=0 waited
  # A newcomer's 2222 is free; on a shared machine it may not be, since the network is the machine's.
  if ! port_is_free 2222; then
    command+=' -- --port 0'
    say "$suite: port 2222 is busy on this machine, so another is taken"
  fi
  say "$suite: \$ $command"
  rm -f "$region" "$work/keys"
  mkfifo "$work/keys"
  : >"$work/run.log"
  started=$SECONDS
  # script gives it a terminal, so that Ctrl-C is what a user's Ctrl-C is; without job control a background
  # command would ignore it.
  set -m
  in_debian $((build_s + 900)) script -q -e -f -c "exec $command" /dev/null <"$work/keys" >"$work/run.log" 2>&1 &
  terminal=$!
  set +m
  exec 4>"$work/keys"
  while [ ! -s "$region" ]; do
    if ! kill -0 "$terminal" 2>/dev/null; then
      tail -n 40 "$work/run.log"
      fail "$suite: $command ended before region.json was there"
    fi
    [ $((SECONDS - started)) -lt "$build_s" ] || { tail -n 40 "$work/run.log"; fail "$suite: no region.json within $build_s s"; }
    sleep 0.5
  done
  say "$suite: region.json is there after $((SECONDS - started)) s; it printed:"
  sleep 1
  tr -d '\r' <"$work/run.log" | sed -n '/answers on/,$p' | head -n 12
  (use_it) || status=1
  say "$suite: Ctrl-C"
  printf '\003' >&4
  for waited in $(seq 60); do
    kill -0 "$terminal" 2>/dev/null || break
    sleep 0.5
  done
  exec 4>&-
  if kill -0 "$terminal" 2>/dev/null; then
    tail -n 20 "$work/run.log"
    complain "$suite: $command did not end within 30 s of Ctrl-C"
    status=1
    kill "$terminal" || true
    wait "$terminal" || true
  else
    wait "$terminal" || { status=$?; tail -n 20 "$work/run.log"; complain "$suite: $command ended with status $status"; }
  fi
  tr -d '\r' <"$work/run.log" | tail -n 2
  [ ! -e "$region" ] || { complain "$suite: region.json is still there"; status=1; }
  check_nobody_left "Ctrl-C" || status=1
  return "$status"
}

inside() {
  suite=$1 work=$3 root=$3/root
  local site=$2 flags=" ${*:4} " started=$SECONDS status=0
  test_s=${NEWCOMER_TEST_S:-5400} build_s=${NEWCOMER_BUILD_S:-1800}
  scratch=$work
  collect_env
  mount -t proc proc /proc
  bootstrap
  enter
  write_sources "$site"
  copy_machine
  in_debian 600 apt-get -q update >"$work/apt-update.log" 2>&1 || { tail -n 20 "$work/apt-update.log"; fail "$suite: apt-get update"; }
  ! grep -E '^(W|E):' "$work/apt-update.log" || true
  say "$suite: Debian $(cat "$root/etc/debian_version"), $(in_debian 60 sh -c 'dpkg-query -W | wc -l') packages, $(du -sxm "$root" | cut -f 1) MiB, after $((SECONDS - started)) s; on its mirror: libssl-dev $(candidate libssl-dev), openssh-client $(candidate openssh-client)"
  case $flags in *' only-bootstrap '*) return 0 ;; esac

  rm -rf "$root/root/ringgate"
  git -c safe.directory='*' clone -q --no-hardlinks "$checkout" "$root/root/ringgate"
  say "$suite: clone of $(git -C "$root/root/ringgate" log -1 --format='%h %s')"

  case $flags in
    *' skip-test '*) say "$suite: ./zigw build test is left out (--skip-test)" ;;
    *)
      say "$suite: \$ ./zigw build test"
      started=$SECONDS
      in_debian "$test_s" ./zigw build test 2>&1 | tee "$work/test.log" | sed "s/^/$suite| /" || status=1
      if [ "$status" = 0 ]; then
        say "$suite: ./zigw build test passed in $((SECONDS - started)) s"
      else
        complain "$suite: ./zigw build test, after $((SECONDS - started)) s"
      fi
      check_nobody_left "the tests" || status=1
      ;;
  esac
  (run_it) || status=1
  return "$status"
}

if [ "${1:-}" = --inside ]; then
  shift
  inside "$@"
else
  outer "$@"
fi
