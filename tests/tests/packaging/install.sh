#!/bin/bash
# Installs a Debian package, starts what it installs as its unit says, and purges it again, on a layer above the machine's
# files that ends with the namespaces it runs in: nothing of the machine changes.
#
#     unshare --net --mount --pid --fork --kill-child --mount-proc install.sh DIRECTORY PACKAGE
#
# Where the layer cannot be had it ends before the first step.
set -euo pipefail
dir=$1 root=$1/root

mount -t tmpfs tmpfs "$dir"
mkdir "$dir"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
ip link set lo up
cp "$2" "$root/package.deb"

inside() { chroot "$root" "$@"; }
left() { find "$dir/upper" -name '*tesseract-exporter*' -not -type c; }
of_unit() { sed -n "s/^$1=-\?//p" "$root/usr/lib/systemd/system/tesseract-exporter.service"; }

echo "== install"
inside dpkg --install /package.deb
# Not started and not enabled, as there is nothing to follow yet.
if compgen -G "$root/etc/systemd/system/*/tesseract-exporter.service" >&2; then exit 1; fi
inside systemd-analyze verify --man=no tesseract-exporter.service

echo "== configure, as the description of the package says"
grep '^  - name:' "$root/etc/tesseract-exporter/exporter.yml.example"
cat >"$root/etc/tesseract-exporter/exporter.yml" <<'END'
networks:
  - {name: a, rpc_urls: ['http://127.0.0.1:9'], contract: '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed'}
END

echo "== start, as the unit says, as a user that owns nothing"
start=$(of_unit ExecStart)
# As systemd does, root reads the variables; the words of $ARGS are arguments.
variables=$(of_unit EnvironmentFile) work=$(of_unit WorkingDirectory)
exec 3< <(exec chroot "$root" bash -c "set -a; . $variables; cd $work
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs $start" 2>&1)
exporter=$!
until [[ ${line:-} == *'"listening"'* ]]; do
    read -r line <&3
    echo "$line"
done
inside setpriv --reuid=65534 --regid=65534 --clear-groups tesseract-exporter health
kill -TERM $exporter
wait $exporter

echo "== purge"
rm "$root/etc/tesseract-exporter/exporter.yml"
inside dpkg --purge tesseract-exporter
[[ -z $(left) ]] || { left >&2 && exit 1; }
