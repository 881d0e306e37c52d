//! The size of a volume: a limit of Gluster's quota on its directory.

use lazarette_plugin::{Call, Error, ErrorKind, Level, Result};

use crate::config::VolumeOptions;
use crate::context::Gluster;
use crate::size::Size;

impl Gluster {
    /// Whether the volume's size, if it is to have one, can be given to it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_limit(&self, options: &VolumeOptions) -> Result<()> {
        let Some(size) = options.size else {
            return Ok(());
        };
        if options.path.is_none() {
            return Err(Error::invalid(format!(
                "size {size}: the volume is all of the Gluster volume"
            ))
            .remedy("give it a directory of its own, path: …, or leave size out"));
        }
        self.management.may(&cannot(size))
    }

    /// Gives the volume's directory, which is there, the size that it is to have.
    ///
    /// # Errors
    /// Those of [`Self::may_limit`], and what Gluster says against it.
    pub(crate) fn limit(&self, call: &Call, options: &VolumeOptions) -> Result<()> {
        self.may_limit(options)?;
        let (Some(size), Some(path)) = (options.size, self.quota_path(options)) else {
            return Ok(());
        };
        let bytes = size.bytes().to_string();
        let words = ["limit-usage", path.as_str(), &bytes];
        self.management.tell(call, &cannot(size), "quota", &words)?;
        Ok(())
    }

    /// Whether the volume's directory holds no more than its new size.
    ///
    /// # Errors
    /// `InvalidArgument` if it does.
    pub(crate) fn holds_less(&self, call: &Call, options: &VolumeOptions) -> Result<()> {
        self.may_limit(options)?;
        let (Some(size), Some(path)) = (options.size, self.quota_path(options)) else {
            return Ok(());
        };
        let what = cannot(size);
        let answer = self
            .management
            .ask(call, &what, "quota", &["list", path.as_str()])?;
        let limits = answer.all("limit");
        let used = limits.iter().find(|l| l.text_of("path") == path);
        let used = used.and_then(|l| l.text_of("used_space").parse::<u64>().ok());
        match used {
            Some(used) if used > size.bytes() => Err(Error::new(ErrorKind::InvalidArgument, what)
                .cause(format!("it holds {used} bytes"))
                .remedy("take a larger size, or delete files first")),
            _ => Ok(()),
        }
    }

    /// Takes the limit from the volume's directory, which is deleted next. Gluster would go on
    /// listing it, and nothing else is wrong with one that stays.
    pub(crate) fn forget_limit(&self, call: &Call, options: &VolumeOptions) {
        let (Some(_), Some(path)) = (options.size, self.quota_path(options)) else {
            return;
        };
        let words = ["remove", path.as_str()];
        let forgotten = self
            .management
            .tell(call, "cannot forget a size", "quota", &words);
        match forgotten {
            Err(e) if e.kind != ErrorKind::NotFound => self.host.log(Level::Warn, e.to_string()),
            _ => {}
        }
    }

    /// The volume's directory as Gluster's quota names it: from the root of the Gluster volume.
    fn quota_path(&self, options: &VolumeOptions) -> Option<String> {
        let path = options.path.as_ref()?;
        Some(match &self.config.subdirectory {
            Some(above) => format!("/{above}/{path}"),
            None => format!("/{path}"),
        })
    }
}

fn cannot(size: Size) -> String {
    format!("cannot give the directory the size {size}")
}
