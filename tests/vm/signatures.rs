//! Where signatures are required, what the OS has come with serves, and nothing else that says so.

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    what_the_os_has_come_with_serves_where_signatures_are_required,
];

fn what_the_os_has_come_with_serves_where_signatures_are_required(guest: &Guest) -> Result<()> {
    guest.sh(
        "a policy that no signature meets",
        r#"
        ! touch /usr/lib/lazarette/built-in-images 2> /dev/null || fail "the list can be written"
        cat > /run/policy.yml << 'END'
#cloud-config
lazarette:
  plugins: {require_signature: true, keys: [RWRwV20vixiIyny+7qTubRGSM1lu+YgCXrfTrjcZ52Veurm8HP9Kl7qE]}
END
        laz config set /run/policy.yml
        until_ok 60 mounted /mnt/nas/media
        "#,
    )?;
    guest.sh(
        "an image that is newer, of the same kind and content is not the OS's",
        r#"
        built_in=$(laz plugin inspect hello)
        has '"built_in"' <<< "$built_in"
        printf 'FROM lazarette/hello\nLABEL by=stranger\n' > /run/Dockerfile
        DOCKER_BUILDKIT=0 system-docker build -q -t stranger:latest - < /run/Dockerfile
        refused() { laz plugin ls 2>&1 | has 'stranger:latest is not used: it is not signed'; }
        until_ok 60 refused
        same "$built_in" "$(laz plugin inspect hello)" "what serves the kind"
        "#,
    )?;
    guest.sh(
        "an archive does not take a name from the OS's images",
        r#"
        udev=$(system-docker inspect -f '{{.Id}}' lazarette/udev)
        docker tag busybox lazarette/udev
        docker save lazarette/udev > /run/taken.tar
        ! laz plugin install --yes /run/taken.tar 2> /tmp/said || fail "it was installed"
        has 'no plugin' < /tmp/said
        same "$udev" "$(system-docker inspect -f '{{.Id}}' lazarette/udev)" "whose the name is"
        "#,
    )?;
    guest.sh(
        "a context of the OS's kinds starts anew",
        r#"
        before=$(system-docker inspect -f '{{.Id}}' laz-context-nas)
        system-docker kill laz-context-nas
        another() { [ "$(system-docker inspect -f '{{.Id}} {{.State.Running}}' laz-context-nas)" != "$before false" ] && shows '^nas .* healthy'; }
        until_ok 120 another
        docker run --rm -v /mnt/nas/media:/media busybox ls /media
        laz status
        ! shows 'context .*not signed' || fail "a context is said to be not signed"
        "#,
    )?;
    Ok(())
}
