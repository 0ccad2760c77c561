//! The traits of sockets, written once: conversions from and to descriptors and std, reading and writing.
//!
//! Used by each type of this folder.

/// What all types over a descriptor have.
macro_rules! descriptor {
    ($name:ident, $std:ty) => {
        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsFd::as_fd(self).as_raw_fd()
            }
        }

        /// The descriptor stays non-blocking.
        impl From<$name> for std::os::fd::OwnedFd {
            fn from(socket: $name) -> std::os::fd::OwnedFd {
                socket.0.into_inner().into()
            }
        }

        impl TryFrom<std::os::fd::OwnedFd> for $name {
            type Error = std::io::Error;

            fn try_from(fd: std::os::fd::OwnedFd) -> std::io::Result<$name> {
                <$name>::from_std(fd.into())
            }
        }

        impl TryFrom<$std> for $name {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$name> {
                <$name>::from_std(socket)
            }
        }
    };
}

/// `Read` and `Write`, also for shared references.
macro_rules! read_and_write {
    ($($name:ty),*) => { $(
        impl std::io::Read for $name {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(|mut socket| std::io::Read::read(&mut socket, buffer))
            }

            fn read_vectored(&mut self, buffers: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                self.0.read(|mut socket| std::io::Read::read_vectored(&mut socket, buffers))
            }
        }

        impl std::io::Write for $name {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                self.0.write(|mut socket| std::io::Write::write(&mut socket, buffer))
            }

            fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.0.write(|mut socket| std::io::Write::write_vectored(&mut socket, buffers))
            }

            /// Does nothing: nothing is buffered here.
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    )* };
}

pub(super) use {descriptor, read_and_write};
