exec 2>&1
show() { echo "--- $*"; timeout -k 1 10 "$@"; }
show laz status
show laz logs nas -n 30
for log in /var/log/lazarette/*.log; do show tail -n 25 "$log"; done
show system-docker ps -a
show docker ps -a
show docker volume ls
show nsenter --mount=/run/lazarette/view/mnt -- grep -E ' (/mnt|/run/lazarette/volumes)' /proc/thread-self/mountinfo
show dmesg --level=emerg,alert,crit,err
