# Sourced by run: User Mode Linux. It needs no privilege and no virtualisation, and boots in two seconds.
MORE_PACKAGES="user-mode-linux kmod" .ci/setup
if ! command -v linux.uml >/dev/null; then
    echo "kernel: User Mode Linux is not installed: sudo apt-get install user-mode-linux kmod" >&2
    exit 125
fi
# If the CPU has larger registers than this UML supports (AMX), the machine refuses UML's attempt to restore them.
shim=$environments/uml-registers.so
if [ ! -e "$shim" ] || [ .ci/kernel/uml_registers.c -nt "$shim" ]; then
    gcc -shared -fPIC -O2 -Wall -Wextra -o "$shim.$$" .ci/kernel/uml_registers.c && mv "$shim.$$" "$shim"
fi
machine=(
    env "LD_PRELOAD=$shim" linux.uml mem=2G con=null con0=fd:0,fd:1 "uml_dir=$job" umid=uml
    root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$init" "JOB=$job" MODULES=/usr/lib/uml/modules SHARE=hostfs
    ${PARAMETERS:-}
)
