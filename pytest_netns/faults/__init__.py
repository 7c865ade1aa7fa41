"""What a test does to a network on purpose: impairments, cuts, partitions, schedules of faults; knows components, no handles."""
