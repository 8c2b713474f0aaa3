//! Files and packages on their way, in both directions.

use bytes::Bytes;

use super::{
    InvalidField, LINE_CHARS_MAX, LIST_MAX, Wire, at_least_one, digest, distinct, line, list, name, names,
    nested, required, to_bytes, to_list, to_names, value, wall_time, wire_enum,
};
use crate::api::wire;
use crate::clock::WallTime;
use crate::command::{
    CreateVersionSet, EMPTY_VERSION_SET, FileUpload, FileWanted, PackageFinish, PackageStart, RemovePackage,
    Uploaded,
};
use crate::digest::{FileDigest, TreeDigest, VersionSetDigest};
use crate::exchange::{CHUNK_BYTES_MAX, Encoding, FETCH_FILES_MAX, FileChunk, FileNeed};
use crate::manifest::TREE_BYTES_MAX;
use crate::release::{PACKAGES_MAX, VersionSet};
use crate::view::{PackageId, PackageView, VersionSetView};

wire_enum!(Encoding { Identity, Zstd });

/// The files of one fetch.
impl Wire for Vec<FileNeed> {
    type Message = wire::FetchFilesRequest;

    fn to_wire(&self) -> wire::FetchFilesRequest {
        wire::FetchFilesRequest { files: to_list(self) }
    }

    fn from_wire(message: wire::FetchFilesRequest) -> Result<Self, InvalidField> {
        let wire::FetchFilesRequest { files } = message;
        let needs: Self = at_least_one("files", list("files", files, FETCH_FILES_MAX)?)?;
        distinct("files", needs.iter().map(|need| need.digest))?;
        Ok(needs)
    }
}

impl Wire for FileNeed {
    type Message = wire::FileNeed;

    fn to_wire(&self) -> wire::FileNeed {
        let Self { digest, length, stored_offset } = self;
        wire::FileNeed { digest: to_bytes(digest.as_bytes()), length: *length, stored_offset: *stored_offset }
    }

    fn from_wire(message: wire::FileNeed) -> Result<Self, InvalidField> {
        let wire::FileNeed { digest: contents, length, stored_offset } = message;
        Ok(Self {
            digest: FileDigest(digest("digest", &contents)?),
            length: file_length("length", length)?,
            // Stored bytes may be a little more than the contents, where these do not compress.
            stored_offset: file_length("stored_offset", stored_offset)?,
        })
    }
}

/// Twice what a tree may hold bounds lengths and offsets, so that sums of them cannot overflow.
const FILE_BYTES_MAX: u64 = 2 * TREE_BYTES_MAX;

fn file_length(field: &str, length: u64) -> Result<u64, InvalidField> {
    if length > FILE_BYTES_MAX {
        Err(InvalidField::new(field, format!("is {length}; at most {FILE_BYTES_MAX} are allowed")))
    } else {
        Ok(length)
    }
}

/// A piece of a file: empty only at its end.
fn piece(data: Bytes, last: bool) -> Result<Bytes, InvalidField> {
    if data.is_empty() && !last {
        Err(InvalidField::new("data", "is empty in a piece that is not the last"))
    } else if data.len() > CHUNK_BYTES_MAX {
        let problem = format!("has {} bytes; at most {CHUNK_BYTES_MAX} are allowed", data.len());
        Err(InvalidField::new("data", problem))
    } else {
        Ok(data)
    }
}

impl Wire for FileChunk {
    type Message = wire::FileChunk;

    fn to_wire(&self) -> wire::FileChunk {
        let Self { index, stored_offset, encoding, stored_length, data, last } = self;
        wire::FileChunk {
            index: *index,
            stored_offset: *stored_offset,
            encoding: encoding.to_wire(),
            stored_length: *stored_length,
            data: data.clone(),
            last: *last,
        }
    }

    fn from_wire(message: wire::FileChunk) -> Result<Self, InvalidField> {
        let wire::FileChunk { index, stored_offset, encoding, stored_length, data, last } = message;
        let (stored_offset, stored_length) =
            (file_length("stored_offset", stored_offset)?, file_length("stored_length", stored_length)?);
        let data = piece(data, last)?;
        let end = stored_offset + data.len() as u64;
        if end > stored_length || last != (end == stored_length) {
            let problem = format!("ends at {end} of {stored_length} stored bytes with last = {last}");
            return Err(InvalidField::new("data", problem));
        }
        Ok(Self { index, stored_offset, encoding: value("encoding", encoding)?, stored_length, data, last })
    }
}

impl Wire for FileUpload {
    type Message = wire::FileUpload;

    fn to_wire(&self) -> wire::FileUpload {
        let Self { digest, length, encoding, data, last } = self;
        wire::FileUpload {
            digest: to_bytes(digest.as_bytes()),
            length: *length,
            encoding: encoding.to_wire(),
            data: data.clone(),
            last: *last,
        }
    }

    fn from_wire(message: wire::FileUpload) -> Result<Self, InvalidField> {
        let wire::FileUpload { digest: contents, length, encoding, data, last } = message;
        Ok(Self {
            digest: FileDigest(digest("digest", &contents)?),
            length: file_length("length", length)?,
            encoding: value("encoding", encoding)?,
            data: piece(data, last)?,
            last,
        })
    }
}

impl Wire for Uploaded {
    type Message = wire::UploadFilesResponse;

    fn to_wire(&self) -> wire::UploadFilesResponse {
        let Self { files, bytes } = *self;
        wire::UploadFilesResponse { files, bytes }
    }

    fn from_wire(message: wire::UploadFilesResponse) -> Result<Self, InvalidField> {
        let wire::UploadFilesResponse { files, bytes } = message;
        Ok(Self { files, bytes })
    }
}

impl Wire for PackageStart {
    type Message = wire::PackageStartRequest;

    fn to_wire(&self) -> wire::PackageStartRequest {
        use wire::package_start_request::Part;
        let part = match self {
            Self::Header(package) => Part::Header(wire::PackageTrees { package: Some(package.to_wire()) }),
            Self::Manifest { tree, data, last } => Part::Manifest(wire::ManifestPiece {
                tree: to_bytes(tree.as_bytes()),
                data: data.clone(),
                last: *last,
            }),
        };
        wire::PackageStartRequest { part: Some(part) }
    }

    fn from_wire(message: wire::PackageStartRequest) -> Result<Self, InvalidField> {
        use wire::package_start_request::Part;
        let wire::PackageStartRequest { part } = message;
        Ok(match required("part", part)? {
            Part::Header(wire::PackageTrees { package }) => Self::Header(nested("header.package", package)?),
            Part::Manifest(wire::ManifestPiece { tree, data, last }) => {
                if data.is_empty() {
                    return Err(InvalidField::new("manifest.data", "is missing"));
                }
                let data = piece(data, last).map_err(|invalid| invalid.under("manifest"))?;
                Self::Manifest { tree: TreeDigest(digest("manifest.tree", &tree)?), data, last }
            }
        })
    }
}

/// Files that the coordinator lacks: one answer of several.
impl Wire for Vec<FileWanted> {
    type Message = wire::PackageStartResponse;

    fn to_wire(&self) -> wire::PackageStartResponse {
        let files = self.iter().map(|FileWanted { digest, length }| wire::FileWanted {
            digest: to_bytes(digest.as_bytes()),
            length: *length,
        });
        wire::PackageStartResponse { files: files.collect() }
    }

    fn from_wire(message: wire::PackageStartResponse) -> Result<Self, InvalidField> {
        let wire::PackageStartResponse { files } = message;
        super::at_most("files", files.len(), FETCH_FILES_MAX)?;
        files
            .into_iter()
            .map(|wire::FileWanted { digest: contents, length }| {
                Ok(FileWanted {
                    digest: FileDigest(digest("files.digest", &contents)?),
                    length: file_length("files.length", length)?,
                })
            })
            .collect()
    }
}

impl Wire for PackageFinish {
    type Message = wire::PackageFinishRequest;

    fn to_wire(&self) -> wire::PackageFinishRequest {
        let Self { package, reason } = self;
        wire::PackageFinishRequest { package: Some(package.to_wire()), reason: reason.clone() }
    }

    fn from_wire(message: wire::PackageFinishRequest) -> Result<Self, InvalidField> {
        let wire::PackageFinishRequest { package, reason } = message;
        Ok(Self { package: nested("package", package)?, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}

impl Wire for PackageId {
    type Message = wire::PackageId;

    fn to_wire(&self) -> wire::PackageId {
        let Self { name, version } = self;
        wire::PackageId { name: name.to_string(), version: version.to_string() }
    }

    fn from_wire(message: wire::PackageId) -> Result<Self, InvalidField> {
        let wire::PackageId { name: package, version } = message;
        Ok(Self { name: name("name", &package)?, version: name("version", &version)? })
    }
}

impl Wire for RemovePackage {
    type Message = wire::RemovePackageRequest;

    fn to_wire(&self) -> wire::RemovePackageRequest {
        let Self { package, reason } = self;
        wire::RemovePackageRequest { package: Some(package.to_wire()), reason: reason.clone() }
    }

    fn from_wire(message: wire::RemovePackageRequest) -> Result<Self, InvalidField> {
        let wire::RemovePackageRequest { package, reason } = message;
        Ok(Self { package: nested("package", package)?, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}

impl Wire for PackageView {
    type Message = wire::PackageView;

    fn to_wire(&self) -> wire::PackageView {
        let Self { package, bytes, pushed_by, pushed_at: WallTime(pushed_at_ms), used_by } = self;
        wire::PackageView {
            package: Some(package.to_wire()),
            bytes: *bytes,
            pushed_by: pushed_by.to_string(),
            pushed_at_ms: *pushed_at_ms,
            used_by: to_names(used_by),
        }
    }

    fn from_wire(message: wire::PackageView) -> Result<Self, InvalidField> {
        let wire::PackageView { package, bytes, pushed_by, pushed_at_ms, used_by } = message;
        Ok(Self {
            package: nested("package", package)?,
            bytes,
            pushed_by: name("pushed_by", &pushed_by)?,
            pushed_at: wall_time("pushed_at_ms", pushed_at_ms)?,
            used_by: names("used_by", &used_by, LIST_MAX)?,
        })
    }
}

impl Wire for CreateVersionSet {
    type Message = wire::CreateVersionSetRequest;

    fn to_wire(&self) -> wire::CreateVersionSetRequest {
        let Self { name, packages, reason } = self;
        wire::CreateVersionSetRequest {
            name: name.to_string(),
            packages: to_list(packages),
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::CreateVersionSetRequest) -> Result<Self, InvalidField> {
        let wire::CreateVersionSetRequest { name: set_name, packages, reason } = message;
        if set_name == EMPTY_VERSION_SET {
            return Err(InvalidField::new(
                "name",
                "is the name of the empty version set, which exists everywhere",
            ));
        }
        let packages: Vec<PackageId> = at_least_one("packages", list("packages", packages, PACKAGES_MAX)?)?;
        distinct("packages", packages.iter().map(|package| &package.name))?;
        Ok(Self { name: name("name", &set_name)?, packages, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}

impl Wire for VersionSetView {
    type Message = wire::VersionSetView;

    fn to_wire(&self) -> wire::VersionSetView {
        let Self { name, digest, packages, created_by, created_at, baked_in } = self;
        wire::VersionSetView {
            name: name.to_string(),
            digest: to_bytes(digest.as_bytes()),
            version_set: Some(wire::VersionSet { packages: to_list(packages) }),
            created_by: created_by.to_string(),
            created_at_ms: created_at.0,
            baked_in: to_names(baked_in),
        }
    }

    fn from_wire(message: wire::VersionSetView) -> Result<Self, InvalidField> {
        let wire::VersionSetView {
            name: set_name,
            digest: set,
            version_set,
            created_by,
            created_at_ms,
            baked_in,
        } = message;
        let VersionSet { packages } = nested("version_set", version_set)?;
        Ok(Self {
            name: name("name", &set_name)?,
            digest: VersionSetDigest(digest("digest", &set)?),
            packages,
            created_by: name("created_by", &created_by)?,
            created_at: wall_time("created_at_ms", created_at_ms)?,
            baked_in: names("baked_in", &baked_in, LIST_MAX)?,
        })
    }
}
