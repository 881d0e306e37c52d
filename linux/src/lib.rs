//! What Lazarette asks of the Linux kernel: mounts, namespaces, mount tables, loop devices, commands.
