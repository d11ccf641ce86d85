#!/bin/sh
# Installs the named distribution packages and leaves no new service behind: Mosquitto is wanted as a program, under
# our own configuration, not as a daemon of the system. One that was installed before is not touched.
#
#   sh deploy/setup/install.sh PACKAGE...        (as root; never asks)
set -eu

policy=/usr/sbin/policy-rc.d
mark='written by deploy/setup/install.sh'

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

new_mosquitto=no
for package in "$@"; do
    if [ "$package" = mosquitto ] && ! installed mosquitto; then
        new_mosquitto=yes
    fi
done

ours() {
    [ -f "$policy" ] && grep -q "$mark" "$policy"
}

remove_policy() {
    if ours; then rm -f "$policy"; fi
}

remove_policy # of a run that was killed
trap remove_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ "$new_mosquitto" = yes ] && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\n# %s\n[ "$1" = mosquitto ] && exit 101\nexit 0\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update || echo 'setup: the package lists could not be renewed; trying with those at hand' >&2
apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"

if [ "$new_mosquitto" = yes ]; then
    # Where a policy of the host's own let it start, and so that it does not start at the next boot.
    if command -v systemctl >/dev/null; then
        if [ -d /run/systemd/system ]; then systemctl stop mosquitto.service; fi
        systemctl --quiet disable mosquitto.service
    elif command -v update-rc.d >/dev/null; then
        invoke-rc.d mosquitto stop || true
        update-rc.d mosquitto disable
    fi
fi
