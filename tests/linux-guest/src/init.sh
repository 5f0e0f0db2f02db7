#!/bin/busybox sh
# Process 1 of the guest: loads the modules, then serves a shell on the virtio port.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ip link set lo up
echo "guest: loading modules" > /dev/kmsg
for module in /modules/*; do
    insmod "$module" || echo "guest: cannot load $module"
done
until [ -e /dev/vport* ]; do usleep 10000; done
exec 3<> "$(echo /dev/vport*)"
echo "guest: ready"
cat <&3 | sh >&3 2>&1
