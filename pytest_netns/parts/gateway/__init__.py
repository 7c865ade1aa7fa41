"""The functions of a gateway: masquerade, port forwards, NAT, firewalls; pure."""
