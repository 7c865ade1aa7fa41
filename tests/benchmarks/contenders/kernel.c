/* The kernel's own time: the same networks as the plugin's, in C with raw netlink.
 *
 * Usage: kernel PICTURE [N]    PICTURE: pair | lan | nat | bridge | chain
 * Reads a line from stdin for each step ("up", then "down", and so on) and answers with its time in seconds.
 *
 * The same settings, names, indexes, addresses and number of messages as the plugin's; links are created directly in
 * their namespaces and usable at once (a new carrier is made to take effect); everything is closed at the end. Only the
 * plugin's own bookkeeping is left out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/netconf.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_NFTABLES
#include <nftables/libnftables.h>
#endif

#define FIRST_INDEX 101
#define MAX_NAMESPACES 2048

struct space {
    int fd, netlink, next_index;
};

static struct space spaces[MAX_NAMESPACES];
static int number_of_spaces;
static int home;
static char batch[1 << 16];
static size_t used;
static unsigned sequence;
static char ping_groups[64];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* -- netlink --------------------------------------------------------------------------------------- */

static struct nlmsghdr *begin(int type, int flags, const void *header, size_t size)
{
    struct nlmsghdr *message = (void *)(batch + used);
    memset(message, 0, sizeof *message);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    message->nlmsg_seq = ++sequence;
    message->nlmsg_len = NLMSG_LENGTH(size);
    memcpy(NLMSG_DATA(message), header, size);
    return message;
}

static struct rtattr *put(struct nlmsghdr *message, int type, const void *data, size_t size)
{
    struct rtattr *attribute = (void *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
    return attribute;
}

static struct rtattr *nest(struct nlmsghdr *message, int type)
{
    return put(message, type | NLA_F_NESTED, "", 0);
}

static void unnest(struct nlmsghdr *message, struct rtattr *nested)
{
    nested->rta_len = (char *)message + message->nlmsg_len - (char *)nested;
}

static void finish(struct nlmsghdr *message)
{
    used += NLMSG_ALIGN(message->nlmsg_len);
}

/* Send the collected messages as one datagram; only the last one is acknowledged, and errors. */
static void transact(int netlink)
{
    struct nlmsghdr *message = (void *)batch, *last = message;
    for (size_t offset = 0; offset < used; offset += NLMSG_ALIGN(last->nlmsg_len))
        last = (void *)(batch + offset);
    last->nlmsg_flags |= NLM_F_ACK;
    if (send(netlink, batch, used, 0) < 0)
        die("send");
    used = 0;
    for (;;) {
        char answer[8192];
        int size = recv(netlink, answer, sizeof answer, 0);
        if (size < 0)
            die("recv");
        for (message = (void *)answer; NLMSG_OK(message, size); message = NLMSG_NEXT(message, size)) {
            if (message->nlmsg_type != NLMSG_ERROR)
                continue;
            struct nlmsgerr *error = NLMSG_DATA(message);
            if (error->error) {
                errno = -error->error;
                die("netlink");
            }
            if (message->nlmsg_seq == sequence)
                return;
        }
    }
}

static void set_up(int index)
{
    struct ifinfomsg info = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    finish(begin(RTM_NEWLINK, 0, &info, sizeof info));
}

static void add_address(int index, const char *address, int prefix)
{
    struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index};
    struct nlmsghdr *message = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    struct in_addr raw, broadcast;
    inet_pton(AF_INET, address, &raw);
    broadcast.s_addr = raw.s_addr | htonl((1u << (32 - prefix)) - 1);
    put(message, IFA_LOCAL, &raw, sizeof raw);
    put(message, IFA_ADDRESS, &raw, sizeof raw);
    if (prefix < 31)
        put(message, IFA_BROADCAST, &broadcast, sizeof broadcast);
    finish(message);
}

/* destination NULL: the default route */
static void add_route(const char *destination, int prefix, const char *via)
{
    struct rtmsg info = {.rtm_family = AF_INET, .rtm_dst_len = prefix, .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST};
    struct nlmsghdr *message = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    struct in_addr raw;
    if (destination) {
        inet_pton(AF_INET, destination, &raw);
        put(message, RTA_DST, &raw, sizeof raw);
    }
    inet_pton(AF_INET, via, &raw);
    put(message, RTA_GATEWAY, &raw, sizeof raw);
    finish(message);
}

static void add_bridge(int index, const char *name)
{
    struct ifinfomsg info = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct nlmsghdr *message = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    unsigned off = 0;
    put(message, IFLA_IFNAME, name, strlen(name) + 1);
    struct rtattr *kind = nest(message, IFLA_LINKINFO);
    put(message, IFLA_INFO_KIND, "bridge", 7);
    struct rtattr *data = nest(message, IFLA_INFO_DATA);
    put(message, IFLA_BR_STP_STATE, &off, sizeof off);
    unnest(message, data);
    unnest(message, kind);
    finish(message);
}

static void add_veth(int index, const char *name, struct space *there, int peer_index, const char *peer, int bridge)
{
    struct ifinfomsg info = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct ifinfomsg peer_info = {.ifi_index = peer_index};
    struct nlmsghdr *message = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    put(message, IFLA_IFNAME, name, strlen(name) + 1);
    if (bridge)
        put(message, IFLA_MASTER, &bridge, sizeof bridge);
    struct rtattr *kind = nest(message, IFLA_LINKINFO);
    put(message, IFLA_INFO_KIND, "veth", 5);
    struct rtattr *data = nest(message, IFLA_INFO_DATA);
    struct rtattr *other = put(message, VETH_INFO_PEER | NLA_F_NESTED, &peer_info, sizeof peer_info);
    put(message, IFLA_IFNAME, peer, strlen(peer) + 1);
    put(message, IFLA_NET_NS_FD, &there->fd, sizeof there->fd);
    unnest(message, other);
    unnest(message, data);
    unnest(message, kind);
    finish(message);
}

/* Without it the kernel may drop the interface's packets for up to a second, see carrier.py. */
static void settle(int netlink, const char *name)
{
    struct ethtool_value value = {.cmd = ETHTOOL_GLINK};
    struct ifreq request = {.ifr_data = (void *)&value};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (ioctl(netlink, SIOCETHTOOL, &request) < 0)
        die(name);
}

/* -- namespaces -------------------------------------------------------------------------------------- */

static void write_setting(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, value, strlen(value)) < 0 && errno != EINVAL)
        die(path);
    close(fd);
}

/* As in the plugin: netlink shows whether forwarding and rp_filter of net.ipv4.conf are zero. */
static void read_inherited(int netlink, int which, int *forwarding, int *rp_filter)
{
    struct netconfmsg info = {.ncm_family = AF_INET};
    char answer[8192];
    struct nlmsghdr *message = begin(RTM_GETNETCONF, 0, &info, sizeof info);
    put(message, NETCONFA_IFINDEX, &which, sizeof which);
    if (send(netlink, batch, NLMSG_ALIGN(message->nlmsg_len), 0) < 0 || recv(netlink, answer, sizeof answer, 0) < 0)
        die("settings");
    message = (void *)answer;
    if (message->nlmsg_type != RTM_NEWNETCONF)
        die("settings");
    int left = NLMSG_PAYLOAD(message, NLMSG_ALIGN(sizeof info));
    struct rtattr *attribute = (void *)((char *)NLMSG_DATA(message) + NLMSG_ALIGN(sizeof info));
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type == NETCONFA_FORWARDING)
            *forwarding = *(int *)RTA_DATA(attribute);
        if (attribute->rta_type == NETCONFA_RP_FILTER)
            *rp_filter = *(int *)RTA_DATA(attribute);
    }
}

/* As in the plugin, settings that are already right are not written. */
static void set_defaults(int netlink)
{
    static int all_detect = -1; /* the same in every new namespace */
    int forwarding, all_filter, later_filter, unused;
    read_inherited(netlink, NETCONFA_IFINDEX_ALL, &forwarding, &all_filter);
    read_inherited(netlink, NETCONFA_IFINDEX_DEFAULT, &unused, &later_filter);
    if (all_detect < 0) {
        FILE *file = fopen("/proc/sys/net/ipv6/conf/all/accept_dad", "re");
        if (!file || fscanf(file, "%d", &all_detect) != 1)
            all_detect = 0;
        if (file)
            fclose(file);
    }
    if (forwarding)
        write_setting("/proc/sys/net/ipv4/ip_forward", "0");
    if (all_filter)
        write_setting("/proc/sys/net/ipv4/conf/all/rp_filter", "0");
    if (later_filter)
        write_setting("/proc/sys/net/ipv4/conf/default/rp_filter", "0");
    write_setting("/proc/sys/net/ipv4/tcp_orphan_retries", "1");
    write_setting("/proc/sys/net/ipv4/ping_group_range", ping_groups);
    write_setting("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    if (all_detect)
        write_setting("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
}

static void enter(int fd)
{
    if (setns(fd, CLONE_NEWNET) < 0)
        die("setns");
}

static struct space *add_namespace(void)
{
    struct space *space = &spaces[number_of_spaces++];
    int one = 1;
    if (unshare(CLONE_NEWNET) < 0)
        die("unshare");
    space->fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    space->next_index = FIRST_INDEX;
    space->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    setsockopt(space->netlink, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
    setsockopt(space->netlink, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
    set_up(1);
    transact(space->netlink);
    set_defaults(space->netlink);
    enter(home);
    return space;
}

static void connect_spaces(struct space *a, const char *name, const char *address, struct space *b, const char *peer,
                           const char *peer_address, int bridge, const char *default_route)
{
    int index = a->next_index++, peer_index = b->next_index++;
    add_veth(index, name, b, peer_index, peer, bridge);
    if (address)
        add_address(index, address, 24);
    transact(a->netlink);
    set_up(peer_index);
    add_address(peer_index, peer_address, 24);
    if (default_route)
        add_route(NULL, 0, default_route);
    transact(b->netlink);
    settle(a->netlink, name);
    settle(b->netlink, peer);
}

static void forward(struct space *space)
{
    enter(space->fd);
    write_setting("/proc/sys/net/ipv4/ip_forward", "1");
    write_setting("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    enter(home);
}

static int bridge_in(struct space *space, const char *address, int prefix)
{
    int index = space->next_index++;
    add_bridge(index, "v-net-0");
    add_address(index, address, prefix);
    transact(space->netlink);
    enter(space->fd);
    write_setting("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    write_setting("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
    write_setting("/proc/sys/net/bridge/bridge-nf-call-arptables", "0");
    enter(home);
    return index;
}

/* -- pictures ---------------------------------------------------------------------------------------- */

static void pair(void)
{
    struct space *red = add_namespace(), *blue = add_namespace();
    connect_spaces(red, "veth-red", "192.168.15.1", blue, "veth-blue", "192.168.15.2", 0, NULL);
}

static struct space *lan(void)
{
    struct space *host = add_namespace(), *red = add_namespace(), *blue = add_namespace();
    forward(host);
    int bridge = bridge_in(host, "192.168.15.5", 24);
    connect_spaces(host, "veth-red-br", NULL, red, "veth-red", "192.168.15.1", bridge, "192.168.15.5");
    connect_spaces(host, "veth-blue-br", NULL, blue, "veth-blue", "192.168.15.2", bridge, "192.168.15.5");
    settle(host->netlink, "v-net-0");
    return host;
}

#ifdef WITH_NFTABLES
static void nat(void)
{
    static const char ruleset[] =
        "table inet netns {\n"
        "  chain postrouting {\n    type nat hook postrouting priority 100; policy accept;\n"
        "    oifname \"eth0\" ip saddr 192.168.15.0/24 ip daddr != 192.168.15.0/24 masquerade\n  }\n}\n";
    struct space *host = lan(), *outside = add_namespace();
    connect_spaces(outside, "eth0", "192.168.1.3", host, "eth0", "192.168.1.2", 0, NULL);
    enter(host->fd);
    struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (nft_run_cmd_from_buffer(context, ruleset))
        die("nft");
    nft_ctx_free(context);
    enter(home);
}
#endif

/* N namespaces on one bridge in host, 10.0.0.0/16 */
static void star(int count)
{
    struct space *host = add_namespace();
    int bridge = bridge_in(host, "10.0.255.254", 16);
    for (int n = 0; n < count; n++) {
        char side[32], name[32], address[32];
        struct space *space = add_namespace();
        int index = host->next_index++, inner = space->next_index++;
        snprintf(side, sizeof side, "veth-n%d-br", n);
        snprintf(name, sizeof name, "veth-n%d", n);
        snprintf(address, sizeof address, "10.0.%d.%d", n / 250, n % 250 + 1);
        add_veth(index, side, space, inner, name, bridge);
        transact(host->netlink);
        set_up(inner);
        add_address(inner, address, 16);
        transact(space->netlink);
        settle(host->netlink, side);
        settle(space->netlink, name);
    }
    settle(host->netlink, "v-net-0");
}

/* N routers in a row between two ends, 10.1.K.0/24 between each two, with routes to all networks on every one */
static void chain(int routers)
{
    int count = routers + 2;
    struct space *row[count];
    for (int n = 0; n < count; n++)
        row[n] = add_namespace();
    for (int n = 1; n <= routers; n++)
        forward(row[n]);
    for (int n = 0; n + 1 < count; n++) {
        char left[32], right[32];
        snprintf(left, sizeof left, "10.1.%d.1", n);
        snprintf(right, sizeof right, "10.1.%d.2", n);
        connect_spaces(row[n], "right", left, row[n + 1], "left", right, 0, NULL);
    }
    for (int n = 0; n < count; n++) {
        for (int network = 0; network + 1 < count; network++) {
            char destination[32], via[32];
            if (network == n || network == n - 1)
                continue;
            snprintf(destination, sizeof destination, "10.1.%d.0", network);
            snprintf(via, sizeof via, network > n ? "10.1.%d.2" : "10.1.%d.1", network > n ? n : n - 1);
            add_route(destination, 24, via);
        }
        if (used)
            transact(row[n]->netlink);
    }
}

static void up(const char *picture, int count)
{
    if (!strcmp(picture, "pair"))
        pair();
    else if (!strcmp(picture, "lan"))
        lan();
#ifdef WITH_NFTABLES
    else if (!strcmp(picture, "nat"))
        nat();
#endif
    else if (!strcmp(picture, "bridge"))
        star(count);
    else if (!strcmp(picture, "chain"))
        chain(count);
    else
        exit(2);
}

static void down(void)
{
    while (number_of_spaces > 0) {
        struct space *space = &spaces[--number_of_spaces];
        close(space->netlink);
        close(space->fd);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void find_ping_groups(void)
{
    unsigned long first, outside, count;
    FILE *map = fopen("/proc/self/gid_map", "re");
    if (!map || fscanf(map, "%lu %lu %lu", &first, &outside, &count) != 3)
        die("gid_map");
    fclose(map);
    unsigned long last = first + count - 1;
    snprintf(ping_groups, sizeof ping_groups, "%lu %lu", first, last > 2147483647 ? 2147483647 : last);
}

int main(int argc, char **argv)
{
    char line[64];
    int count = argc > 2 ? atoi(argv[2]) : 0;
    home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    find_ping_groups();
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double start = now();
        if (!strcmp(line, "up\n"))
            up(argv[1], count);
        else
            down();
        printf("%.9f\n", now() - start);
        fflush(stdout);
    }
    return 0;
}
