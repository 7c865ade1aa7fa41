"""What a gateway does to packets: masquerade, port forwards, NAT, firewalls; pure."""
