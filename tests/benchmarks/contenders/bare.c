/* The minimum cost of a test with its own network, called from its body: create and free a namespace with lo up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

/* Returns 0 on success. */
int bare(void)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } up = {{sizeof up, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0}, {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP}};
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
    } answer = {.error = {.error = -1}};
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    int failed = unshare(CLONE_NEWNET);
    if (!failed) {
        int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        failed = send(netlink, &up, sizeof up, 0) < 0 || recv(netlink, &answer, sizeof answer, 0) < 0 || answer.error.error;
        close(netlink);
        failed |= setns(home, CLONE_NEWNET);
    }
    close(home);
    return failed;
}
