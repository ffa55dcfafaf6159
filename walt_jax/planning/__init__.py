"""What a config will take: counts, memory, collectives, time; no run."""
