#!/bin/sh
# Prepares a Debian machine as a Quarterdeck node: user, folders, example configuration, systemd units.
# Run it again whenever you like: what is there is kept, and a second run changes nothing.
#
#   sudo deploy/install.sh [--source PATH] [--upgrade]
#
# --source PATH  a clone or a wheel of Quarterdeck, installed with pip into /opt/quarterdeck when it is not there
# --upgrade      install it also when it is there
# DESTDIR puts everything below another root (packages, tests); then no unit is loaded.
set -eu

user=${QD_INSTALL_USER:-quarterdeck}
root=${DESTDIR:-}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source_path=''
upgrade=no
changed=0

while [ $# -gt 0 ]; do
  case $1 in
    --source) source_path=${2:?--source needs a path}; shift 2 ;;
    --upgrade) upgrade=yes; shift ;;
    *) echo "install: no such option: $1 (see the head of this file)" >&2; exit 2 ;;
  esac
done

if [ "$(id -u)" -ne 0 ]; then
  echo "install: this needs root; nothing was changed" >&2
  exit 1
fi

did() {
  changed=$((changed + 1))
  echo "install: $*"
}

folder() { # PATH MODE OWNER GROUP
  if [ -d "$root$1" ] && [ "$(stat -c '%a %U %G' "$root$1")" = "$2 $3 $4" ]; then return; fi
  install -d -m "$2" -o "$3" -g "$4" "$root$1"
  did "folder $1"
}

# Puts a file where it differs or is missing.
file() { # SOURCE TARGET MODE
  if [ -f "$root$2" ] && cmp -s "$1" "$root$2"; then return; fi
  install -D -m "$3" "$1" "$root$2"
  did "file $2"
}

if ! getent passwd "$user" >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/quarterdeck-node --no-create-home \
    --shell /usr/sbin/nologin "$user"
  did "user $user"
fi
group=$(id -gn "$user")

folder /etc/quarterdeck 750 root "$group"
folder /var/lib/quarterdeck-node 700 "$user" "$group"
[ -d "$root/srv" ] || folder /srv 755 root root

if [ ! -e "$root/etc/quarterdeck/node.toml" ]; then
  name=$(hostname -s | tr '[:upper:]' '[:lower:]' | tr -cd '[:alnum:].-')
  sed "s/^name = \"node-1\"/name = \"${name:-node-1}\"/" "$here/examples/node.toml" >"$root/etc/quarterdeck/.node.toml"
  chown "root:$group" "$root/etc/quarterdeck/.node.toml"
  chmod 640 "$root/etc/quarterdeck/.node.toml"
  mv "$root/etc/quarterdeck/.node.toml" "$root/etc/quarterdeck/node.toml"
  did "file /etc/quarterdeck/node.toml, from the example"
fi

before=$changed
for unit in "$here"/systemd/*; do
  file "$unit" "/etc/systemd/system/$(basename "$unit")" 644
done
if [ "$changed" -gt "$before" ] && [ -z "$root" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ -f "$here/../docs/nodes.md" ]; then
  file "$here/../docs/nodes.md" /usr/share/doc/quarterdeck/nodes.md 644
fi

if [ -n "$source_path" ] && { [ "$upgrade" = yes ] || [ ! -x "$root/opt/quarterdeck/bin/qd" ]; }; then
  python3 -m venv "$root/opt/quarterdeck"
  "$root/opt/quarterdeck/bin/python" -m pip install -q --disable-pip-version-check --upgrade "${source_path}[node]"
  did "Quarterdeck in /opt/quarterdeck"
fi

if [ "$changed" -eq 0 ]; then
  echo "install: nothing to change"
  exit 0
fi
cat <<'NEXT'
install: done. Next:
  1. look at /etc/quarterdeck/node.toml
  2. /opt/quarterdeck/bin/qd node init --host NAME_OR_ADDRESS --owner quarterdeck --admin YOU
  3. systemctl enable --now quarterdeck-podman.socket quarterdeck-node.service quarterdeck-snapshot.timer
NEXT
