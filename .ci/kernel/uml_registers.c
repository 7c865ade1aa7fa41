// For User Mode Linux on CPUs with larger registers than it supports (such as Intel's AMX).
//
// UML saves and restores the registers of its processes by ptrace(2), in a buffer of the size it was built for. Reading
// fills the buffer, but the machine's kernel refuses to write it with EFAULT, as it only accepts the whole register set:
// xstateregs_set() in arch/x86/kernel/fpu/regset.c of Linux. So the rest is written with its present values.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long ptrace_function(enum __ptrace_request, ...);

long ptrace(enum __ptrace_request request, ...) {
    static ptrace_function *real;
    static char whole[1 << 16];  // UML calls this from one thread only
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (real == NULL)
        real = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
    long result = real(request, pid, address, data);
    if (result != -1 || errno != EFAULT || request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
        return result;
    struct iovec *known = data, all = {whole, sizeof whole};
    if (real(PTRACE_GETREGSET, pid, address, &all) == -1 || all.iov_len < known->iov_len) {
        errno = EFAULT;
        return -1;
    }
    memcpy(whole, known->iov_base, known->iov_len);
    return real(PTRACE_SETREGSET, pid, address, &all);
}
