set -euo pipefail
# say MESSAGE: the reason why a script ends.
fail() { echo "$*" >&2; exit 1; }
# same WANTED FOUND WHAT
same() { [ "$1" = "$2" ] || fail "$3: wanted '$1', found '$2'"; }
# has PATTERN: at the end of a pipe: a line is like that. Unlike `grep -q` it reads to the end: with
# pipefail a command that still has something to say when nobody listens any more fails the pipe.
has() {
    local status=0
    grep -q "$@" || status=$?
    cat > /dev/null
    return $status
}
# until_ok SECONDS COMMAND…: repeats the command until it succeeds.
until_ok() {
    local until=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "in time: $*" >&2; "$@" >&2; return 1; }
        sleep 0.3
    done
}
# within MILLISECONDS COMMAND…: the command must succeed, and be as quick as that. What hangs does so
# for minutes; how quick an answer is, the bench tells: under emulation a busy machine takes seconds.
within() {
    local limit=$1 from to
    shift
    from=$(date +%s%N)
    timeout -k 1 120 "$@" || fail "failed: $*"
    to=$(date +%s%N)
    local took=$(((to - from) / 1000000))
    [ $took -le "$limit" ] || fail "took $took ms, not $limit: $*"
}
# bounded SECONDS COMMAND…: the command must end by itself; its exit status.
bounded() {
    local limit=$1 from=$SECONDS status=0
    shift
    timeout -k 1 "$limit" "$@" || status=$?
    [ $status -ne 124 ] && [ $status -ne 137 ] || fail "did not end within $limit s: $*"
    echo "$((SECONDS - from)) s: $*" >&2
    return $status
}
# docker …: as it is; but a container is made without a network unless its line says which: that is a third
# of the time it takes here, and no volume needs it. `command docker` leaves it as users have it.
docker() {
    if [ "$1" = run ] && [[ " $* " != *" --network "* ]]; then
        shift
        set -- run --network none "$@"
    fi
    command docker "$@"
}
# In user Docker's mount namespace.
view() { nsenter --mount=/run/lazarette/view/mnt -- "$@"; }
# mounted TARGET: the row of the view's mount table for what is mounted there, or nothing.
mounted() { view grep -F " $1 " /proc/thread-self/mountinfo | tail -n 1; }
# nfs_inside CONTEXT: what a storage container itself has mounted from NFS servers.
nfs_inside() {
    local pid
    pid=$(system-docker inspect -f '{{.State.Pid}}' "laz-context-$1")
    grep -E ' - nfs4? ' "/proc/$pid/mountinfo" || true
}
# nothing_inside_but NUMBER CONTEXT: no more than so many mounts are left in a storage container, soon;
# one that replaces another makes none anew that still serve in the view.
nothing_inside_but() {
    nothing_else_inside() { [ "$(nfs_inside "$2" | wc -l)" -le "$1" ]; }
    until_ok 120 nothing_else_inside "$@" || fail "more than $1 mounts in the container of $2: $(nfs_inside "$2")"
}
# hanging: how many threads of the OS's wait for a mount or an unmount to end.
hanging() {
    local comm name count=0
    for comm in /proc/[0-9]*/task/[0-9]*/comm; do
        read -r name 2> /dev/null < "$comm" || continue
        case $name in
            unmount | namespace | mount.nfs | mount.nfs4) count=$((count + 1)) ;;
        esac
    done
    echo $count
}
# shows PATTERN: laz status has a line like that.
shows() { laz status | has -e "$1"; }
# The process of a service of init, such as user-docker.
engine_pid() { cat "/run/$1.pid"; }
core_pid() { pgrep -x laz-core; }
# The OS's own flock(1) for a container: the small image has none.
flock='-v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /usr/bin/flock:/bin/flock:ro'
# writer NAME VOLUME: a container that appends a line to a file each 0.2 s.
writer() {
    docker run -d --name "$1" -v "$2:/data" busybox sh -c \
        'i=0; while :; do i=$((i + 1)); echo $i >> /data/'"$1"' || echo failed >> /errors; sleep 0.2; done' > /dev/null
}
# writes NAME FILE: the writer's file grows, and no write failed.
writes() {
    local before after
    before=$(wc -l < "$2")
    for _ in $(seq 100); do
        sleep 0.2
        after=$(wc -l < "$2")
        if [ "$after" -gt "$before" ]; then
            return
        fi
    done
    fail "$1 writes nothing more after line $before"
}
# unharmed NAME FILE: no write failed and no line is missing.
unharmed() {
    local lines
    docker cp "$1:/errors" - > /dev/null 2>&1 && fail "$1: a write failed"
    lines=$(wc -l < "$2")
    same "$(seq "$lines" | md5sum)" "$(head -n "$lines" "$2" | md5sum)" "the lines of $1"
}
