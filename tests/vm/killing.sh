# What is at work dies while volumes are made, copied and removed. Who uses this has said before:
# CONTEXT, the context's name; VOLUME, the words of `laz volume create` that all its volumes share;
# there NAME ID, whether the storage has anything of that volume; serves, whether the context does.

# serving: the plugin host runs; $host is its process.
serving() {
    host=$(system-docker top "laz-context-$CONTEXT" -o pid,args | awk '/laz-plugin-host serve/ { print $1 }')
    [ -n "$host" ]
}
# attempt VICTIM MOMENT COMMAND…: kills core, the plugin host or a storage command (`core`, `host`, `tool`)
# while the command runs: so many seconds after its begin, or as soon as a storage command with the words
# of MOMENT is seen. Says whether the command has succeeded all the same.
attempt() {
    local victim=$1 moment=$2 running core look
    shift 2
    [ "$victim" != host ] || until_ok 60 serving
    core=$(core_pid)
    look=(pgrep)
    [ "$victim" != tool ] || look=(pkill -KILL)
    "$@" > /tmp/out 2>&1 &
    running=$!
    case $moment in
        [0-9]*) sleep "$moment" ;;
        *)
            while kill -0 $running 2> /dev/null; do
                # Written like this it is not found in this script's own words.
                if "${look[@]}" -f "/sbin/$moment" > /dev/null; then
                    echo "$victim $moment" >> /tmp/hits
                    break
                fi
            done
            ;;
    esac
    case $victim in
        core) kill -9 "$core" ;;
        host) kill -9 "$host" ;;
    esac
    acknowledged=no
    wait $running && acknowledged=yes
    echo "$victim $moment: $* acknowledged: $acknowledged $(tail -n 1 /tmp/out)" >&2
    until_ok 60 laz status
    until_ok 150 serves
}
of() { laz volume inspect "$1" | grep -o -E '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' | sed -n 1p; }
known() { laz volume inspect "$1" > /dev/null; }
# stays NAME: it is known, made, and not on its way out.
stays() { laz volume inspect "$1" | has -E '"phase": *"(idle|mounted)"'; }
# taken NAME: so is that snapshot of the volume kept.
taken() { laz volume snapshots --json kept | tr -d ' \n' | has -e "\"name\":\"$1\"[^}]*\"phase\":\"taken\""; }
# told NAME: if its making was acknowledged, it is known.
told() { [ $acknowledged = no ] || until_ok 30 stays "$1" || fail "$1 was acknowledged and is not there: $(laz volume inspect "$1" 2>&1)"; }
# create VICTIM MOMENT NAME OPTION…
create() {
    local name=$3
    local make=(laz volume create "${VOLUME[@]}" "${@:4}" "$name")
    attempt "$1" "$2" "${make[@]}"
    told "$name"
    until_ok 90 "${make[@]}"
}
# snapshot VICTIM MOMENT NAME: of the volume kept, to which somebody writes.
snapshot() {
    local name=$3
    attempt "$1" "$2" laz volume snapshot kept "$name"
    [ $acknowledged = no ] || until_ok 30 taken "$name" || fail "the snapshot $name was acknowledged and is not there"
    again() { taken "$name" || laz volume snapshot kept "$name"; }
    until_ok 90 again
}
# duplicate VICTIM MOMENT SOURCE NAME: a clone. One over which the plugin host dies is finished.
duplicate() {
    local from=$3 name=$4
    attempt "$1" "$2" laz volume clone "$from" "$name"
    told "$name"
    [ "$1" != host ] || [ $acknowledged = yes ] || fail "the clone $name was given up: $(cat /tmp/out)"
    again() { stays "$name" || laz volume clone "$from" "$name"; }
    until_ok 90 again
}
# remove VICTIM MOMENT NAME
remove() {
    local name=$3 id
    id=$(of "$name")
    attempt "$1" "$2" laz volume rm --yes "$name"
    [ $acknowledged = no ] || ! there "$name" "$id" || fail "$name was removed and is still there"
    gone() { ! known "$name" || laz volume rm --yes "$name"; }
    until_ok 90 gone
    ! there "$name" "$id" || fail "$name is still there"
}
