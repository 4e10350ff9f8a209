"""A small name server: what it answers is a table that a test may change at any time."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Records = dict[tuple[str, str], list[str]]


class Zone:
    """Names and what they stand for: `zone["app.test.", "A"] = ["127.0.0.2"]`."""

    def __init__(self, records: Records | None = None, ttl: int = 1) -> None:
        self.records: Records = records or {}
        self.ttl = ttl
        self.asked: list[tuple[str, str]] = []
        self.additional = False
        """Whether the addresses of the hosts in an SRV record come with it."""
        self.fits = 512
        """Octets of a datagram."""
        self.silent = False
        self.code = dns.rcode.NOERROR
        """What is answered in place of records."""

    def answer(self, octets: bytes, *, datagram: bool) -> bytes | None:
        """None for silence."""
        query = dns.message.from_wire(octets)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        response.set_rcode(self.code)
        if self.code == dns.rcode.NOERROR:
            self._fill(response, name, kind)
        wire = response.to_wire()
        if datagram and len(wire) > self.fits:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        while (kind != "CNAME") and (alias := self.records.get((name, "CNAME"))):
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", *alias))
            name = alias[0]
        found = self.records.get((name, kind))
        if found:
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if kind == "SRV" and self.additional:
            for target in {record.split()[3] for record in found or ()}:
                if addresses := self.records.get((target, "A")):
                    response.additional.append(dns.rrset.from_text(target, self.ttl, "IN", "A", *addresses))


class NameServer:
    """It answers on a port of 127.0.0.1, datagrams and connections."""

    def __init__(self, zone: Zone, host: str = "127.0.0.1") -> None:
        self.zone = zone
        self.tcp = socket.create_server((host, 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((host, self.port))
        self.address = f"{host}:{self.port}"
        self.threads = [threading.Thread(target=one, daemon=True) for one in (self._datagrams, self._connections)]
        for thread in self.threads:
            thread.start()

    def _datagrams(self) -> None:
        while True:
            try:
                octets, peer = self.udp.recvfrom(65536)
            except OSError:
                return
            if not octets:
                return
            answer = self.zone.answer(octets, datagram=True)
            if answer is not None:
                self.udp.sendto(answer, peer)

    def _connections(self) -> None:
        while True:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            with sock:
                length = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
                answer = self.zone.answer(sock.recv(length, socket.MSG_WAITALL), datagram=False)
                if answer is not None:
                    sock.sendall(len(answer).to_bytes(2, "big") + answer)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self.tcp.shutdown(socket.SHUT_RDWR)
        for sock in (self.udp, self.tcp):
            sock.close()
        for thread in self.threads:
            thread.join(10)
