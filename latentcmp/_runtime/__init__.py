"""The machine: native library, backends, devices, files, progress, processes. Knows no chemistry."""
