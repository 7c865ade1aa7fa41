#!/bin/sh
# The pictures "pair" and "nat" with ip and nft commands in a shell script; protocol as in kernel.c.

pair_up() {
    ip netns add red && ip netns add blue &&
        ip -n red link set lo up && ip -n blue link set lo up &&
        ip link add veth-red netns red type veth peer name veth-blue netns blue &&
        ip -n red address add 192.168.15.1/24 dev veth-red && ip -n blue address add 192.168.15.2/24 dev veth-blue &&
        ip -n red link set veth-red up && ip -n blue link set veth-blue up
}

nat_up() {
    for name in host red blue outside; do
        ip netns add $name && ip -n $name link set lo up || return
    done
    ip netns exec host sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 &&
        ip -n host link add v-net-0 type bridge && ip -n host link set v-net-0 up &&
        ip -n host address add 192.168.15.5/24 dev v-net-0 || return
    for port in red:1 blue:2; do
        name=${port%:*}
        ip -n host link add veth-$name-br type veth peer name veth-$name netns $name &&
            ip -n host link set veth-$name-br master v-net-0 up &&
            ip -n $name address add 192.168.15.${port#*:}/24 dev veth-$name &&
            ip -n $name link set veth-$name up &&
            ip -n $name route add default via 192.168.15.5 || return
    done
    ip -n outside link add eth0 type veth peer name eth0 netns host &&
        ip -n outside address add 192.168.1.3/24 dev eth0 && ip -n outside link set eth0 up &&
        ip -n host address add 192.168.1.2/24 dev eth0 && ip -n host link set eth0 up &&
        ip netns exec host nft -f - <<-RULES
		table inet netns {
		  chain postrouting {
		    type nat hook postrouting priority 100; policy accept;
		    oifname "eth0" ip saddr 192.168.15.0/24 ip daddr != 192.168.15.0/24 masquerade
		  }
		}
	RULES
}

nat_rate() { # Mbit/s
    ip netns exec outside iperf3 --server --one-off >/dev/null &
    until ip netns exec outside ss -Hltn | grep -q :5201; do :; done
    rate=$(ip netns exec red iperf3 --client 192.168.1.3 --time 1 --format m | awk '/receiver/ { print $7 }')
    wait
}

pair_down() {
    ip netns delete red && ip netns delete blue
}

nat_down() {
    for name in host red blue outside; do
        ip netns delete $name || return
    done
}

echo ready
while read -r step; do
    start=$(date +%s.%N)
    rate=
    "$1_$step" || exit 1
    [ -n "$rate" ] && echo "$rate" && continue
    end=$(date +%s.%N)
    echo "$end $start" | awk '{ printf "%.9f\n", $1 - $2 }'
done
