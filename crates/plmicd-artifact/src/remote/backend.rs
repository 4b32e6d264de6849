//! The object store behind a URL, as calls that block.

use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutPayload,
    RetryConfig,
};
use tokio::runtime::Runtime;
use url::Url;

use super::error::RemoteError;

/// The layout below the URL.
const LAYOUT: &str = "v1";
/// Larger files go up in parts of this size, of which one is in memory at a time.
pub(super) const PART: usize = 16 << 20;
/// How long nothing may come. A part has to be sent within it too, so it takes 2.2 Mbit/s.
const STALL: Duration = Duration::from_secs(60);
/// What a killed push to a folder leaves of a file is removed after this time, when the file is pushed again.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// An object store and the folder in it.
#[derive(Debug)]
pub(super) struct Backend {
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where it is a folder of this machine.
    folder: Option<Utf8PathBuf>,
    /// For people.
    pub url: String,
}

impl Backend {
    /// `make` makes a folder that is not there, but not the one it is in: that may be a disk that is not mounted.
    pub fn open(url: &str, options: &[(String, String)], make: bool) -> Result<Self, RemoteError> {
        // Only the first installation counts; any other that is there already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = parse(url)?;
        let shown = shown(&parsed);
        let bad = |why: String| RemoteError::Url { url: shown.clone(), why };
        // It would be seen in lists of processes, in scripts for Slurm and in messages of the object store.
        if parsed.password().is_some() || parsed.query().is_some() {
            return Err(bad(
                "a URL holds no password, key or signature; they are given in variables such as \
                 AWS_SECRET_ACCESS_KEY, GOOGLE_SERVICE_ACCOUNT or AZURE_STORAGE_KEY"
                    .to_owned(),
            ));
        }
        let (scheme, prefix) = ObjectStoreScheme::parse(&parsed)
            .map_err(|_| bad("this kind of URL is not supported".to_owned()))?;
        // A machine that cannot be reached must not hold up a run for minutes.
        let retry =
            RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
        // A large file may take as long as it takes while something comes.
        let client = ClientOptions::new().with_timeout_disabled().with_read_timeout(STALL);
        macro_rules! built {
            ($builder:ty) => {{
                let start = <$builder>::new()
                    .with_url(parsed.to_string())
                    .with_retry(retry)
                    .with_client_options(client);
                let builder = options.iter().fold(start, |builder, (name, value)| match name.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                let store: Arc<dyn ObjectStore> =
                    Arc::new(builder.build().map_err(|error| bad(error.to_string()))?);
                store
            }};
        }
        let mut folder = None;
        let (store, prefix): (Arc<dyn ObjectStore>, Path) = match scheme {
            ObjectStoreScheme::AmazonS3 => (built!(AmazonS3Builder), prefix),
            ObjectStoreScheme::GoogleCloudStorage => (built!(GoogleCloudStorageBuilder), prefix),
            ObjectStoreScheme::MicrosoftAzure => (built!(MicrosoftAzureBuilder), prefix),
            ObjectStoreScheme::Local => {
                let path = parsed.to_file_path().ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
                let path = path.ok_or_else(|| bad("it is no path of this machine".to_owned()))?;
                if make && !path.exists() {
                    // What is put into it takes the umask's modes. One that is there is as open as its owner has made it.
                    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
                    made.map_err(|error| bad(format!("making the folder: {error}")))?;
                }
                if !path.is_dir() {
                    return Err(RemoteError::NoFolder { url: shown });
                }
                let local =
                    LocalFileSystem::new_with_prefix(&path).map_err(|error| bad(error.to_string()))?;
                folder = Some(path);
                let store: Arc<dyn ObjectStore> = Arc::new(local.with_fsync(true));
                (store, Path::default())
            }
            _ => return Err(bad("this kind of URL is not supported".to_owned())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self { runtime, store, prefix: prefix.join(LAYOUT), folder, url: shown })
    }

    /// An object's name with the URL, for people.
    pub fn name(&self, object: &str) -> String {
        format!("{}/{LAYOUT}/{object}", self.url.trim_end_matches('/'))
    }

    fn path(&self, object: &str) -> Path {
        object.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn failed(&self, doing: &'static str, object: &str, source: object_store::Error) -> RemoteError {
        RemoteError::Io { doing, object: self.name(object), source: Box::new(source) }
    }

    /// A small object; `None` where there is none.
    pub fn read(&self, object: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let path = self.path(object);
        let read = self.runtime.block_on(async { self.store.get(&path).await?.bytes().await });
        match read {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("reading", object, error)),
        }
    }

    /// The bytes of an object; `None` where there is none.
    pub fn size(&self, object: &str) -> Result<Option<u64>, RemoteError> {
        let path = self.path(object);
        match self.runtime.block_on(self.store.head(&path)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("looking for", object, error)),
        }
    }

    /// The names of all objects below a folder.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, RemoteError> {
        let prefix = self.path(folder);
        let listing = self.store.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect::<Vec<Path>>();
        let found = self.runtime.block_on(listing).map_err(|error| self.failed("listing", folder, error))?;
        let below = |path: &Path| {
            let rest: Vec<String> =
                path.prefix_match(&self.prefix)?.map(|part| AsRef::<str>::as_ref(&part).to_owned()).collect();
            Some(rest.join("/"))
        };
        Ok(found.iter().filter_map(below).collect())
    }

    /// Writes a small object, whole or not at all.
    pub fn write(&self, object: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let path = self.path(object);
        let put = self.runtime.block_on(self.store.put(&path, PutPayload::from(bytes)));
        put.map(|_| ()).map_err(|error| self.failed("writing", object, error))
    }

    /// Writes an object of any size, whole or not at all: `next` fills a part and says how much of it, less than the
    /// whole only at the end, and fails where the object must not come to be.
    pub fn write_parts(
        &self,
        object: &str,
        next: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), RemoteError>,
    ) -> Result<(), RemoteError> {
        let path = self.path(object);
        let failed = |error| self.failed("writing", object, error);
        let mut upload = self.runtime.block_on(self.store.put_multipart(&path)).map_err(failed)?;
        let mut parts = || -> Result<(), RemoteError> {
            loop {
                let mut part = Vec::with_capacity(PART);
                next(&mut part)?;
                let last = part.len() < PART;
                if !part.is_empty() {
                    let put = upload.put_part(PutPayload::from(part));
                    self.runtime.block_on(put).map_err(failed)?;
                }
                if last {
                    return Ok(());
                }
            }
        };
        let sent = parts();
        match sent {
            Ok(()) => self.runtime.block_on(upload.complete()).map(|_| ()).map_err(failed),
            Err(error) => {
                // Where this fails too, the store's own rules for unfinished uploads clear them away.
                let _ = self.runtime.block_on(upload.abort());
                Err(error)
            }
        }
    }

    /// Removes what killed processes left of an object in a folder. Object stores have rules of their own for that.
    pub fn clear_abandoned(&self, object: &str) -> std::io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(LAYOUT).join(object);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        if !parent.is_dir() {
            return Ok(());
        }
        for entry in fs_err::read_dir(parent)? {
            let entry = entry?;
            let found = entry.file_name();
            let rest = found.to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('#'));
            let is_part = rest.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
            let age = || {
                SystemTime::now().duration_since(entry.metadata()?.modified()?).map_err(std::io::Error::other)
            };
            if is_part && age().is_ok_and(|age| age > ABANDONED) {
                // Another push may be faster, or it may be somebody else's: it does no harm.
                let _ = fs_err::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Reads an object from a byte on, piece by piece; `false` where there is none.
    pub fn read_from(
        &self,
        object: &str,
        start: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RemoteError>,
    ) -> Result<bool, RemoteError> {
        let path = self.path(object);
        let failed = |error| self.failed("reading", object, error);
        let range = (start > 0).then_some(GetRange::Offset(start));
        let options = GetOptions { range, ..GetOptions::default() };
        let mut pieces = match self.runtime.block_on(self.store.get_opts(&path, options)) {
            Ok(found) => found.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        while let Some(piece) = self.runtime.block_on(pieces.next()) {
            take(&piece.map_err(failed)?)?;
        }
        Ok(true)
    }
}

/// A URL, or a path of this machine as one.
fn parse(url: &str) -> Result<Url, RemoteError> {
    let bad = |why: String| RemoteError::Url { url: redacted(url), why };
    if url.contains("://") {
        return Url::parse(url).map_err(|error| bad(error.to_string()));
    }
    let path = camino::absolute_utf8(Utf8Path::new(url)).map_err(|error| bad(error.to_string()))?;
    Url::from_file_path(&path).map_err(|()| bad("it is no path of this machine".to_owned()))
}

/// What cannot be read as a URL, without what may be a password in it.
fn redacted(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for a URL with a host, and others have neither.
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string().trim_end_matches('/').to_owned()
}

/// Reads until the buffer has `PART` bytes or the file ends.
pub(super) fn fill(file: &mut impl Read, part: &mut Vec<u8>) -> std::io::Result<()> {
    file.by_ref().take((PART - part.len()) as u64).read_to_end(part).map(|_| ())
}
