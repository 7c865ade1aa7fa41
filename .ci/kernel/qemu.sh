# Sourced by run: Debian's own kernel in a virtual machine, which sees the machine's files over 9p. RELEASE=... selects
# another release; KVM=1 is fast, if the machine's /dev/kvm works, which it may not inside a virtual machine.
MORE_PACKAGES="qemu-system-x86 busybox-static cpio kmod" .ci/setup
kernels=$environments/kernels release=${RELEASE:-}
if [ -z "$release" ]; then # the newest of the distribution
    release=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: linux-image-//p')
fi
if [ ! -e "$kernels/$release/initrd" ]; then
    rm -rf "$kernels/$release" && mkdir -p "$kernels/$release"
    (
        cd "$kernels/$release"
        echo "kernel: downloading linux-image-$release"
        apt-get download -qq -o APT::Sandbox::User=root "linux-image-$release" >&2
        dpkg-deb -x linux-image-*.deb . && rm linux-image-*.deb
        [ -d lib ] || ln -s usr/lib lib
        depmod --basedir "$PWD" "$release"
        # The requirements for reaching the machine's files: modules, in order, and a shell.
        mkdir -p first/bin first/modules first/proc first/root && cp "$(command -v busybox)" first/bin/busybox
        for module in virtio_pci 9pnet_virtio 9p overlay; do
            modprobe --dirname "$PWD" --set-version "$release" --show-depends $module
        done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >modules
        number=100
        while read -r module; do
            number=$((number + 1))
            case $module in
            *.xz) xz --decompress --stdout "$module" >first/modules/$number.ko ;;
            *) cp "$module" first/modules/$number.ko ;;
            esac
        done <modules
        cat >first/init <<'INIT'
#!/bin/busybox sh
for module in /modules/*; do /bin/busybox insmod $module; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro machine /root
exec /bin/busybox switch_root /root "$START"
INIT
        chmod +x first/init
        (cd first && find . | cpio --quiet -o -H newc | gzip -1) >initrd.new && mv initrd.new initrd
    )
fi
accelerator=(-accel tcg,thread=multi,tb-size=512 -cpu max)
[ -z "${KVM:-}" ] || accelerator=(-accel kvm -cpu host)
parameters="console=ttyS0 quiet panic=-1 mitigations=off MODULES=$kernels/$release/lib/modules SHARE=9p START=$init JOB=$job ${PARAMETERS:-}"
machine=(
    qemu-system-x86_64 "${accelerator[@]}" -smp 2 -m 3G -display none -no-reboot -nic none
    -serial stdio -append "$parameters"
    -kernel "$kernels/$release/boot/vmlinuz-$release" -initrd "$kernels/$release/initrd"
    -virtfs "local,path=/,mount_tag=machine,security_model=passthrough,readonly=on,multidevs=remap"
    -virtfs "local,path=$job,mount_tag=job,security_model=passthrough"
)
