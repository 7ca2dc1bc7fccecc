# Shared by the scripts of this folder: says what is missing, installs it, can be run again.

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

# need_apt PACKAGE...: installs those Debian or Ubuntu packages that are missing.
need_apt() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "installing Debian packages: ${missing[*]}"
    local sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# need_cargo: a Rust toolchain that is new enough, or a line that says how to get one.
need_cargo() {
    command -v cargo >/dev/null && return 0
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env" && command -v cargo >/dev/null && return 0
    echo "error: no Rust toolchain: install rustc 1.94 or newer with cargo" >&2
    exit 2
}

# need_cargo_tool NAME VERSION: that tool in target/tools/bin, built once.
need_cargo_tool() {
    local program="target/tools/bin/$1"
    [ -x "$program" ] && "$program" --version | grep -qwF "$2" && return 0
    say "building $1 $2 into target/tools (a minute or two)"
    cargo install -q "$1" --version "$2" --locked --root target/tools
}

# need_venv REQUIREMENTS: the Python virtual environment .venv with exactly these packages.
need_venv() {
    local stamp=".venv/requirements.sha256" sum
    sum=$(sha256sum "$1" | cut -d ' ' -f 1)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && return 0
    say "making the Python environment .venv from $1"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install -q --disable-pip-version-check -r "$1"
    echo "$sum" >"$stamp"
}

# need_npm PACKAGE_JSON: these packages of npm in target/npm, beside what cargo builds. Node.js from
# another source than the distribution's brings its own npm, beside which Debian's cannot stand.
need_npm() {
    command -v npm >/dev/null || need_apt nodejs npm
    local stamp="target/npm/package.sha256" sum
    sum=$(sha256sum "$1" | cut -d ' ' -f 1)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && return 0
    say "installing npm packages of $1 into target/npm"
    rm -rf target/npm
    mkdir -p target/npm
    cp "$1" target/npm/package.json
    npm install --prefix target/npm --silent --no-audit --no-fund
    echo "$sum" >"$stamp"
}

# in_scratch_root COMMAND...: runs it as root in a view of this machine of which nothing stays: the
# root folder with a layer in memory above it, so that a package can be installed for real, and a
# network with nothing in it but loopback. The working folder is the real one.
in_scratch_root() {
    local become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo)
    # shellcheck disable=SC2016 # for the inner shell
    "${become[@]}" unshare --mount --net --pid --fork --kill-child bash -euc '
        here=$PWD
        root=/mnt/root
        mount -t tmpfs tmpfs /mnt
        mkdir /mnt/upper /mnt/work $root
        mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work $root
        mount --rbind /dev $root/dev
        mount -t proc proc $root/proc
        mount -t tmpfs tmpfs $root/run
        mkdir -p "$root$here"
        mount --rbind "$here" "$root$here"
        ip link set lo up
        # Not chroot: in one, no service may have users of its own.
        mkdir $root/mnt/old
        pivot_root $root $root/mnt/old
        umount -l /mnt/old
        exec bash -euc "cd \"$here\" && exec \"\$@\"" in_scratch_root "$@"
    ' in_scratch_root "$@"
}

# booted_scratch_root COMMAND...: the same with systemd as its first process, as on a machine that was
# just started and has no services of its own.
booted_scratch_root() {
    local said=target/scratch
    rm -rf $said
    mkdir -p $said
    # shellcheck disable=SC2016 # for the inner shell
    in_scratch_root unshare --cgroup bash -euc '
        units=/etc/systemd/system
        mount -t sysfs -o ro sysfs /sys
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mount --make-rshared /
        : >/etc/fstab
        rm -f /usr/sbin/policy-rc.d
        rm -rf $units/*.wants
        for unit in tmp.mount systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service; do
            ln -sf /dev/null $units/$unit
        done
        printf "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=scratch.service\n" >$units/scratch.target
        {
            printf "[Service]\nType=oneshot\nTimeoutStartSec=15min\nWorkingDirectory=%s\n" "$PWD"
            printf "StandardOutput=append:%s/target/scratch/log\nStandardError=inherit\n" "$PWD"
            printf "ExecStart=%s\nExecStopPost=bash -c \"echo \$EXIT_STATUS >target/scratch/status\"\n" "$*"
        } >$units/scratch.service
        export container=scratch
        exec /lib/systemd/systemd --unit=scratch.target --show-status=false --log-target=null
    ' booted "$@" </dev/null >/dev/null 2>&1 & local machine=$!
    until [ -s $said/status ] || ! kill -0 $machine 2>/dev/null; do sleep 0.2; done
    pkill -KILL -P $machine || true
    wait $machine 2>/dev/null || true
    cat $said/log
    [ "$(cat $said/status)" = 0 ]
}
