"""How jobs run: devices, leases, files, progress, errors, seeds, memory."""
