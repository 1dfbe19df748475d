#!/bin/sh
# Installs Usher as a systemd service on Debian and its relatives, from the wheel of a release:
#
#     sh install.sh usher_server-VERSION-py3-none-any.whl      install, or upgrade to this release
#     sh install.sh --uninstall                                remove it; settings and data are kept
#     sh install.sh --uninstall --purge                        remove settings, data and user too
#
# --dry-run only prints what would be done, and needs no root rights. It can run again at any time:
# what is as it should be is left alone. docs/deploy.md describes it.
set -eu
umask 022

BASE=/opt/usher
RELEASES=$BASE/releases
CURRENT=$BASE/current
SETTINGS=/etc/usher
ENVIRONMENT=$SETTINGS/usher.env
DATA=/var/lib/usher
UNIT=/etc/systemd/system/usher.service
ACCOUNT=usher
PYTHON=${PYTHON:-python3}

dry_run=
action=install
purge=
wheel=

fail() {
  echo "install.sh: $1" >&2
  exit "${2:-1}"
}

say() {
  echo "install.sh: $1"
}

# Every change of the machine goes through here.
run() {
  if [ -n "$dry_run" ]; then
    echo "would run: $*"
  else
    "$@"
  fi
}

# Not in a container or a chroot: there the unit is only laid down.
systemd_runs() {
  [ -d /run/systemd/system ]
}

check_python() {
  command -v "$PYTHON" >/dev/null || fail "$PYTHON is not there: apt-get install python3 python3-venv"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
    || fail "$("$PYTHON" --version) is too old: Python 3.10 or later is needed; name one: PYTHON=…"
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$PYTHON cannot make a virtual environment: apt-get install python3-venv"
}

check_wheel() {
  [ -f "$wheel" ] || fail "$wheel is not a file"
  case ${wheel##*/} in
    usher_server-*-py3-none-any.whl) ;;
    *) fail "$wheel is not the wheel of a release: usher_server-VERSION-py3-none-any.whl" ;;
  esac
  sum=$(sha256sum "$wheel" | cut -d ' ' -f 1)
  sums=$(dirname "$wheel")/SHA256SUMS
  if [ -f "$sums" ]; then
    grep -qx "$sum  ${wheel##*/}" "$sums" || fail "$wheel is not the file of $sums"
  fi
}

# A file of the wheel, to stdout.
from_wheel() {
  "$PYTHON" -c 'import sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("usher_server/deploy/" + sys.argv[2]))' \
    "$wheel" "$1"
}

make_account() {
  getent passwd "$ACCOUNT" >/dev/null && return
  run useradd --system --user-group --home-dir "$DATA" --no-create-home --shell /usr/sbin/nologin "$ACCOUNT"
}

make_settings() {
  run install -d -m 0755 "$SETTINGS"
  run install -d -o "$ACCOUNT" -g "$ACCOUNT" -m 0700 "$DATA"
  if [ -f "$ENVIRONMENT" ]; then
    run chmod 0600 "$ENVIRONMENT"
    return
  fi
  run install -m 0600 /dev/null "$ENVIRONMENT"
  [ -n "$dry_run" ] || cat >"$ENVIRONMENT" <<'SETTINGS'
# The settings of Usher, one a line: `usher --help` lists them. After a change: systemctl restart usher
#USHER_PUBLIC_URL=https://app.example
#USHER_TRUSTED_PROXIES=127.0.0.1
SETTINGS
}

# Into a folder of its own: the running release stays as it is until the new one is complete.
install_release() {
  name=${wheel##*/}
  version=${name#usher_server-}
  release=$RELEASES/${version%%-*}-$(echo "$sum" | cut -c 1-8)
  if [ -f "$release/complete" ]; then
    say "$release is installed"
    return
  fi
  run install -d -m 0755 "$RELEASES"
  run rm -rf "$release"
  if [ -n "$dry_run" ]; then
    run "$PYTHON" -m venv "$release"
    run "$release/bin/python" -m pip install --only-binary :all: --constraint constraints.txt "$wheel"
    return
  fi
  trap 'rm -rf "$release"' EXIT
  trap 'exit 1' HUP INT TERM
  "$PYTHON" -m venv "$release"
  from_wheel constraints.txt >"$release/constraints.txt"
  "$release/bin/python" -m pip --disable-pip-version-check --no-cache-dir install --quiet \
    --only-binary :all: --constraint "$release/constraints.txt" "$wheel"
  "$release/bin/usher" --version
  touch "$release/complete"
  trap - EXIT HUP INT TERM
}

# Restarts the service only if something has changed.
switch() {
  changed=
  previous=$(readlink "$CURRENT" || true)
  if [ "$previous" != "$release" ]; then
    changed=1
    # A rename: there is a release at every moment.
    run ln -sfn "$release" "$CURRENT.new"
    run mv -T "$CURRENT.new" "$CURRENT"
  fi
  if [ "$(from_wheel usher.service)" != "$(cat "$UNIT" 2>/dev/null)" ]; then
    changed=1
    if [ -n "$dry_run" ]; then
      echo "would run: install the unit of the wheel as $UNIT"
    else
      install -d -m 0755 "${UNIT%/*}"
      from_wheel usher.service >"$UNIT.new"
      chmod 0644 "$UNIT.new"
      mv "$UNIT.new" "$UNIT"
    fi
  fi
  if ! systemd_runs; then
    say "systemd does not run here: the service was not started"
  elif [ -z "$changed" ]; then
    say "nothing has changed"
  else
    run systemctl daemon-reload
    if [ -n "$previous" ]; then
      run systemctl try-restart usher
    else
      run systemctl enable usher
    fi
  fi
  remove_old
}

# The one before is kept: its wheel brings it back at once.
remove_old() {
  for old in "$RELEASES"/*; do
    [ -d "$old" ] || continue
    case $old in "$release" | "$previous") ;; *) run rm -rf "$old" ;; esac
  done
}

install_usher() {
  check_python
  check_wheel
  make_account
  make_settings
  install_release
  switch
  if [ -z "$previous" ]; then
    say "write the settings into $ENVIRONMENT, then: systemctl start usher"
  fi
}

uninstall() {
  if systemd_runs && [ -f "$UNIT" ]; then
    run systemctl disable --now usher
  fi
  run rm -f "$UNIT" "$CURRENT"
  run rm -rf "$RELEASES"
  if [ -d "$BASE" ]; then
    run rmdir --ignore-fail-on-non-empty "$BASE"
  fi
  if systemd_runs; then
    run systemctl daemon-reload
  fi
  if [ -z "$purge" ]; then
    say "kept: $SETTINGS, $DATA and the user $ACCOUNT (--purge removes them)"
    return
  fi
  run rm -rf "$SETTINGS" "$DATA"
  if getent passwd "$ACCOUNT" >/dev/null; then
    run userdel "$ACCOUNT"
  fi
}

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --uninstall) action=uninstall ;;
    --purge) purge=1 ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    -*) fail "unknown option $1; see --help" 2 ;;
    *)
      [ -z "$wheel" ] || fail "one wheel, not two; see --help" 2
      wheel=$1
      ;;
  esac
  shift
done
[ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || fail "run it as root, or with --dry-run"
if [ $action = uninstall ]; then
  [ -z "$wheel" ] || fail "--uninstall takes no wheel; see --help" 2
  uninstall
else
  [ -z "$purge" ] || fail "--purge goes with --uninstall; see --help" 2
  [ -n "$wheel" ] || fail "which wheel? See --help" 2
  install_usher
fi
