package images

// The scripts run in the work directory of one image, in their own mount and
// process namespaces. root/ is what becomes the layer.

// baseScript makes the Debian base with the machine's own package sources.
const baseScript = `
sources=
for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do [ -s "$f" ] && { sources=$f; break; }; done
mmdebstrap --variant=minbase --include=ca-certificates \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  bookworm root $sources
rm -rf root/dev root/var/lib/apt/lists root/var/cache/apt root/var/log/*log root/var/log/apt root/etc/resolv.conf root/etc/hostname
mkdir -p root/dev root/var/lib/apt/lists/partial root/var/cache/apt/archives/partial
`

// extractScript unpacks packages into an empty root file system, without their scripts.
const extractScript = `
cp -a assets/. root/
cd root
[ -n "$(ls -A "$APT/lists" | grep -v -e partial -e lock)" ] || true
for p in $PACKAGES; do
  (cd "$APT/archives" && apt-get download -q "$p")
  dpkg -x "$APT"/archives/"$p"_*.deb .
done
rm -rf usr/share
if [ -x usr/bin/busybox ]; then mkdir -p bin && mv usr/bin/busybox bin/busybox; elif [ -x bin/busybox ]; then :; fi
mkdir -p usr/bin && ln -sf /bin/busybox usr/bin/busybox
busybox=$PWD/bin/busybox
printf '%s' "$SETUP" | sed "s,/usr/bin/busybox --list-full,$busybox --list-full," | sh -eu
`

// overlayScript installs packages into a copy-on-write view of the base.
const overlayScript = `
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$PWD/root,workdir=$PWD/overlay" merged
mount -t proc proc merged/proc
mount -t tmpfs tmpfs merged/dev
for n in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
  set -- $n; mknod -m 666 "merged/dev/$1" c "$2" "$3"
done
ln -s /proc/self/fd merged/dev/fd; ln -s /proc/self/fd/0 merged/dev/stdin; ln -s /proc/self/fd/1 merged/dev/stdout; ln -s /proc/self/fd/2 merged/dev/stderr
mkdir -p merged/dev/shm merged/dev/pts
mount -t tmpfs tmpfs merged/run
mount --bind "$APT/lists" merged/var/lib/apt/lists
mount --bind "$APT/archives" merged/var/cache/apt/archives
mount -t tmpfs tmpfs merged/tmp -o mode=1777
cp -L /etc/resolv.conf merged/run/resolv.conf
touch merged/etc/resolv.conf && mount --bind merged/run/resolv.conf merged/etc/resolv.conf
printf '#!/bin/sh\nexit 101\n' > merged/usr/sbin/policy-rc.d && chmod +x merged/usr/sbin/policy-rc.d
if [ -n "$PACKAGES" ]; then
  chroot merged sh -c 'ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || apt-get update -q'
  chroot merged apt-get install -y -q --no-install-recommends $PACKAGES ||
    { chroot merged apt-get update -q && chroot merged apt-get install -y -q --no-install-recommends $PACKAGES; }
fi
# Packages make their run directories on tmpfs; images have them on disk.
for d in merged/run/*; do
  case "$(basename "$d")" in resolv.conf|lock) continue;; esac
  if [ -d "$d" ]; then mkdir -p keep && cp -a "$d" keep/; fi
done
umount merged/run
[ ! -d keep ] || cp -a keep/. merged/run/
cp -a --no-preserve=ownership assets/. merged/
chroot merged sh -euc "$SETUP"
rm -f merged/usr/sbin/policy-rc.d
umount merged/etc/resolv.conf 2>/dev/null || true
umount merged/var/cache/apt/archives merged/var/lib/apt/lists merged/tmp merged/dev merged/proc
rm -rf merged/etc/resolv.conf merged/var/log/apt merged/var/log/dpkg.log merged/var/log/alternatives.log merged/var/cache/apt/*.bin merged/var/cache/debconf/*-old merged/var/lib/dpkg/*-old
umount merged
`
