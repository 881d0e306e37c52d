//! Volumes that people make: with Docker and with laz.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    docker_volumes_come_work_and_go_without_a_trace,
    a_volume_is_a_directory_made_on_demand,
    attach_and_detach_take_a_url,
    case_16_compose_brings_volumes_up_and_takes_them_down_without_a_trace,
    case_15_16_options_are_refused_when_they_differ_and_secrets_are_not_echoed,
];

fn docker_volumes_come_work_and_go_without_a_trace(guest: &Guest) -> Result<()> {
    guest.sh(
        "create, run, list, inspect",
        r#"
        same media "$(docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=4.2 media)" name
        same x "$(docker run --rm -v media:/data busybox sh -c 'echo x > /data/f; cat /data/f')" read
        same x "$(nas exec cat /srv/media/f)" "what the server holds"
        docker volume ls | has '^nfs  *media$'
        "#,
    )?;
    let text = guest.sh("inspect", "docker volume inspect media")?;
    let inspected: Value = serde_json::from_str(&text)?;
    ensure!(
        inspected[0]["Driver"] == "nfs" && inspected[0]["Name"] == "media",
        "{text}"
    );
    ensure!(inspected[0]["Status"]["context"] == "nas", "{text}");
    guest.sh(
        "laz sees the same",
        "laz volume ls | has '^media '; laz volume inspect media | has '\"context\": \"nas\"'",
    )?;
    guest.sh(
        "in use: two containers, docker cp, removal refused",
        r#"
        docker run -d --name one -v media:/data busybox sleep 1000 > /dev/null
        docker run -d --name two -v media:/data:ro busybox sleep 1000 > /dev/null
        docker cp one:/data/f - | tar -xO | has x
        ! docker exec two sh -c 'echo z > /data/f' 2> /dev/null || fail "read-only was not"
        ! docker volume rm media 2> /dev/null || fail "a volume in use was removed"
        ! laz volume rm --yes media 2> /dev/null || fail "laz removed a volume in use"
        docker rm -f two > /dev/null
        docker exec one cat /data/f > /dev/null
        until_ok 20 shows '^media .* one '
        docker rm -f one > /dev/null
        "#,
    )?;
    guest.sh(
        "unused it is not mounted; removed it leaves nothing but its data",
        r#"
        unmounted() { ! view grep -q ' /run/lazarette/volumes/' /proc/thread-self/mountinfo; }
        until_ok 20 unmounted
        docker volume rm media > /dev/null
        ! docker volume inspect media > /dev/null 2>&1 || fail "the volume is still there"
        ! laz volume inspect media > /dev/null 2>&1 || fail "core still knows the volume"
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        same laz-context-nas "$(system-docker ps -a --filter name=laz-context --format '{{.Names}}')" "storage containers"
        nothing_inside_but 2 nas
        nas exec test -e /srv/media/f
        "#,
    )?;
    guest.sh(
        "a server that no context has gets a container of its own, which goes with the volume",
        r#"
        docker volume create -d nfs -o server=10.201.0.2 -o export=/srv/media other > /dev/null
        docker run --rm -v other:/data busybox cat /data/f | has x
        same 2 "$(system-docker ps -q --filter name=laz-context | wc -l)" "storage containers"
        docker volume rm other > /dev/null
        only_nas() { [ "$(system-docker ps -a --filter name=laz-context --format '{{.Names}}')" = laz-context-nas ]; }
        until_ok 60 only_nas
        same nas "$(ls /run/lazarette/contexts)" "the contexts' directories"
        "#,
    )?;
    Ok(())
}

fn a_volume_is_a_directory_made_on_demand(guest: &Guest) -> Result<()> {
    guest.sh(
        "with mode and owner",
        r#"
        docker volume create -d nfs -o server=nas.test -o export=/srv/home -o path=apps/web \
            -o mode=0750 -o uid=1000 -o gid=1001 web > /dev/null
        docker run --rm -v web:/data busybox sh -c 'echo w > /data/index'
        same "750 1000 1001" "$(nas exec stat -c '%a %u %g' /srv/home/apps/web)" "the directory"
        same w "$(nas exec cat /srv/home/apps/web/index)" "what the server holds"
        docker run --rm -v web:/data busybox ls /data > /tmp/seen
        same index "$(cat /tmp/seen)" "what is seen of the export"
        "#,
    )?;
    guest.sh(
        "it stays, or goes with the volume if that was said",
        r#"
        docker volume rm web > /dev/null
        nas exec test -e /srv/home/apps/web/index
        docker volume create -d nfs -o server=nas.test -o export=/srv/home -o path=apps/tmp -o on_remove=delete tmp > /dev/null
        docker run --rm -v tmp:/data busybox sh -c 'mkdir /data/d; echo w > /data/d/f'
        nas exec test -e /srv/home/apps/tmp/d/f
        docker volume rm tmp > /dev/null
        ! nas exec test -e /srv/home/apps/tmp || fail "it stayed"
        nas exec test -e /srv/home/apps/web/index
        "#,
    )?;
    guest.sh(
        "a link on the server leads nowhere else",
        r#"
        nas exec ln -s /etc /srv/home/apps/link
        nas exec ln -s ../.. /srv/home/apps/up
        for path in apps/link apps/up/media; do
            docker volume create -d nfs -o server=nas.test -o export=/srv/home -o path=$path evil > /dev/null 2>&1 || continue
            ! docker run --rm -v evil:/data busybox true 2> /tmp/said || fail "$path was followed"
            docker volume rm -f evil > /dev/null
        done
        "#,
    )?;
    let paths = ["../home", "/etc", "a/../../b", ""];
    for (number, path) in paths.into_iter().enumerate() {
        let script = format!(
            "docker volume create -d nfs -o server=nas.test -o export=/srv/home -o path='{path}' evil{number}"
        );
        guest.refused(&format!("path {path:?}"), &script, &["path"])?;
    }
    guest.sh(
        "a path below a declared export works as a path, too",
        r#"
        nas exec mkdir /srv/media/films
        same r "$(docker run --rm -v /mnt/nas/media/films:/data busybox sh -c 'echo r > /data/f; cat /data/f')" read
        same r "$(nas exec cat /srv/media/films/f)" "what the server holds"
        "#,
    )?;
    Ok(())
}

fn attach_and_detach_take_a_url(guest: &Guest) -> Result<()> {
    guest.sh(
        "attach by server",
        r#"
        laz attach nfs://nas.test/srv/media --name pictures
        mounted /mnt/nas.test/pictures | has ' - nfs4 nas.test:/srv/media '
        same x "$(docker run --rm -v /mnt/nas.test/pictures:/data busybox sh -c 'echo x > /data/f; cat /data/f')" read
        laz status | has '^pictures .* attached$'
        "#,
    )?;
    guest.sh(
        "attach through a context, for reading only",
        r#"
        laz attach --read-only nfs://nas/srv/home --name letters
        row=$(mounted /mnt/nas/letters)
        case $row in *" /mnt/nas/letters ro,"*) ;; *) fail "not read-only: $row" ;; esac
        ! docker run --rm -v /mnt/nas/letters:/data busybox touch /data/f 2> /dev/null || fail "it was written"
        "#,
    )?;
    guest.sh(
        "in use it stays",
        r#"
        docker run -d --name user -v /mnt/nas.test/pictures:/data busybox sleep 1000 > /dev/null
        until_ok 20 shows '^pictures .* user '
        ! laz detach pictures 2> /dev/null || fail "it was detached under a container"
        docker rm -f user > /dev/null
        "#,
    )?;
    guest.sh(
        "detached it is gone",
        r#"
        until_ok 20 laz detach pictures
        laz detach letters
        ! view grep -E 'pictures|letters' /proc/thread-self/mountinfo || fail "still mounted"
        ! view test -e /mnt/nas.test || fail "a target is left"
        ! laz status | grep -E 'pictures|letters' || fail "core still knows them"
        "#,
    )?;
    guest.refused(
        "an unknown scheme",
        "laz attach smb://nas/x",
        &["smb", "nfs"],
    )?;
    guest.refused("a declared one", "laz detach nas.media", &["declared"])?;
    Ok(())
}

/// What is in a volume's options when it is made stays. This Compose tells nobody that the file
/// says something else by now: docs/nfs.md does.
fn case_16_compose_brings_volumes_up_and_takes_them_down_without_a_trace(
    guest: &Guest,
) -> Result<()> {
    guest.sh(
        "up",
        r#"
        mkdir /root/site; cd /root/site
        cat > compose.yml <<'END'
services:
  app:
    image: busybox
    command: sh -c 'echo x >> /data/f; exec sleep 1000'
    stop_signal: SIGKILL
    network_mode: none
    volumes: [data:/data]
volumes:
  data:
    driver: nfs
    driver_opts: {server: nas.test, export: /srv/media, path: composed, vers: "4.2"}
END
        docker compose up -d
        written() { nas exec grep -q x /srv/media/composed/f; }
        until_ok 30 written
        same nfs "$(docker volume inspect -f '{{.Driver}}' site_data)" "the driver"
        until_ok 20 shows '^site_data .* site-app-1 '
        "#,
    )?;
    guest.sh(
        "other options in the file leave what is there as it is",
        r#"
        cd /root/site
        sed -i 's/"4.2"/"4.1"/' compose.yml
        docker compose up -d --force-recreate
        row=$(docker compose exec -T app grep ' /data ' /proc/mounts)
        case $row in *,vers=4.2,*) ;; *) fail "the mount in the container: $row" ;; esac
        laz volume inspect site_data | has '"vers": "4.2"'
        twice() { [ "$(nas exec cat /srv/media/composed/f | wc -l)" = 2 ]; }
        until_ok 30 twice
        "#,
    )?;
    guest.sh(
        "down -v leaves nothing but the data; up makes it anew, as the file says by now",
        r#"
        cd /root/site
        docker compose down -v
        ! docker volume inspect site_data > /dev/null 2>&1 || fail "the volume is still there"
        ! laz volume inspect site_data > /dev/null 2>&1 || fail "core still knows the volume"
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        same "" "$(docker ps -aq)" "containers"
        nas exec test -e /srv/media/composed/f
        docker compose up -d
        laz volume inspect site_data | has '"vers": "4.1"'
        docker compose down -v
        "#,
    )?;
    Ok(())
}

fn case_15_16_options_are_refused_when_they_differ_and_secrets_are_not_echoed(
    guest: &Guest,
) -> Result<()> {
    guest.sh(
        "the same again is fine",
        r#"
        create() { laz volume create --kind nfs -o server=nas.test -o export=/srv/media "$@"; }
        create -o vers=4.2 media > /dev/null
        create -o vers=4.2 media > /dev/null
        "#,
    )?;
    let other =
        "laz volume create --kind nfs -o server=nas.test -o export=/srv/media -o vers=4.1 media";
    guest.refused("laz", other, &["media", "vers", "4.2", "4.1"])?;
    guest.sh(
        "Docker's protocol",
        r#"
        post() {
            perl -MIO::Socket::UNIX -e '
                my $socket = IO::Socket::UNIX->new("/run/docker/plugins/nfs.sock") or die "$!";
                my ($endpoint, $body) = @ARGV;
                print $socket "POST /VolumeDriver.$endpoint HTTP/1.1\r\nHost: \r\n";
                print $socket "Content-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
                print while <$socket>;' "$1" "$2"
        }
        answer=$(post Create '{"Name":"media","Opts":{"server":"nas.test","export":"/srv/media","vers":"4.1"}}')
        case $answer in *vers*4.2*) ;; *) fail "another version was taken: $answer" ;; esac
        "#,
    )?;
    guest.refused(
        "an unknown option",
        "docker volume create -d nfs -o server=nas.test -o exprt=/srv/media oops",
        &["exprt", "export"],
    )?;
    guest.refused(
        "an ill-typed option",
        "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o rsize=many oops",
        &["rsize"],
    )?;
    guest.sh(
        "what might be a secret is in no log and no listing",
        r#"
        canary=hunter2canary
        ! docker volume create -d nfs -o server=nas.test -o export=/srv/media -o password=$canary oops > /tmp/said 2>&1 ||
            fail "Docker made it"
        ! grep $canary /tmp/said || fail "the error echoes it"
        ! laz volume create --kind nfs -o server=nas.test -o export=/srv/media -o password=$canary oops > /tmp/said 2>&1 ||
            fail "laz made it"
        ! grep $canary /tmp/said || fail "laz's error echoes it"
        ! grep -r $canary /var/log/lazarette || fail "a log has it"
        ! laz status --json | grep $canary || fail "the status has it"
        ! docker volume ls | grep oops || fail "a refused volume is listed"
        "#,
    )?;
    Ok(())
}
