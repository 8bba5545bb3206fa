#!/bin/sh
# Makes a Debian machine with vagrant/packages installed into a test guest. Runs as root, inside it:
# in the tree of an image while that is built (nothing is running), or in a Vagrant box. May run twice.
# It does not install packages, and knows nothing of how the guest is booted.
set -eu

# `dev` is someone at work: login sessions through PAM. `runner` is the user of a hosted CI agent: no
# session ever. Both linger, so that their user managers are up from boot. In an image they are 1000
# and 1001; a box has its own ordinary user already.
mkdir -p /var/lib/systemd/linger
for user in dev runner; do
    id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
    touch "/var/lib/systemd/linger/$user"
done

# A claim's stack starts its own redis; and a maintenance job that wakes up in the middle of a claim
# spoils what it measures.
systemctl disable redis-server.service
[ ! -d /run/systemd/system ] || systemctl stop redis-server.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer
