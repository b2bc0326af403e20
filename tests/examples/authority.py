"""A certificate authority of a test, made by openssl(1)."""
import pathlib
import subprocess


class Authority:
    """`folder` exists, and gets authority.pem and the certificates."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.file = self.folder / 'authority.pem'
        self.key = self.folder / 'authority.key'
        run('req', '-x509', *new_key(self.key), '-out', self.file, '-days', '2', '-subj', '/CN=test authority',
            '-addext', 'basicConstraints=critical,CA:TRUE')

    def issue(self, name, names='DNS:localhost,IP:127.0.0.1'):
        """The files of a certificate and its key."""
        request = self.folder / f'{name}.csr'
        chain, key, extensions = (self.folder / f'{name}.{end}' for end in ('pem', 'key', 'ext'))
        run('req', *new_key(key), '-out', request, '-subj', f'/CN={name}')
        extensions.write_text(f'subjectAltName={names}\n')
        run('x509', '-req', '-in', request, '-CA', self.file, '-CAkey', self.key, '-CAcreateserial',
            '-out', chain, '-days', '1', '-extfile', extensions)
        return chain, key


def new_key(path):
    return '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', path


def run(*arguments):
    subprocess.run(['openssl', *map(str, arguments)], check=True, capture_output=True, timeout=60)
