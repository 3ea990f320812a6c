//! A Swarm of three: engines of their own, images, a network from host to host, a Docker daemon that is killed alone.

use std::process::Command;

use crate::daemon::until;
use crate::testbed::{Bed, Host, said};

/// Has bash, and Python from Patroni.
const IMAGE: &str = "pgmoor/postgres";
const PORT: &str = "8000";

#[test]
fn three_managers_are_a_swarm_with_images() {
    let bed = Bed::up(3);
    assert!(bed.is_whole(), "{:?}", bed.hosts()[0].nodes());
    let mut engines: Vec<String> = bed.hosts().iter().map(engine).collect();
    engines.push(said(Command::new("docker").args(["info", "--format", "{{.ID}}"])).unwrap());
    engines.sort();
    engines.dedup();
    assert_eq!(engines.len(), 4, "each has an engine of its own, and none is this machine's");
    let image = image(&bed.hosts()[0]);
    for host in bed.hosts() {
        assert_eq!(host.exec(&["cat", "/proc/sys/kernel/hostname"]).unwrap(), host.name);
        assert!(images(host).contains(&image), "{}: {:?}", host.name, images(host));
    }

    let [one, two, three] = bed.hosts() else { panic!("three hosts") };
    serve_files(&bed, &image);
    reach_each_other(&bed);
    a_killed_daemon_leaves_its_containers(&bed, two);

    // What one host throws away the others keep; and it can be handed over again.
    three.docker(&["service", "rm", "files"]).unwrap();
    until("the container of the removed service is gone", || container(three).is_none());
    let removed = "pgmoor/etcd";
    let name = images(three).into_iter().find(|image| image.starts_with(removed)).unwrap();
    three.docker(&["image", "rm", &name]).unwrap();
    assert!(!images(three).contains(&name));
    assert!(images(one).contains(&name));
    one.docker(&["run", "--rm", "--network", "none", &name, "etcd", "--version"]).unwrap();
    three.load(&name);
    three.docker(&["run", "--rm", "--network", "none", &name, "etcd", "--version"]).unwrap();
}

/// A container on every host that answers on a network of them all.
fn serve_files(bed: &Bed, image: &str) {
    let first = &bed.hosts()[0];
    first.docker(&["network", "create", "--driver", "overlay", "--attachable", "between"]).unwrap();
    let service = ["service", "create", "--detach", "--name", "files", "--mode", "global", "--network", "between"];
    let how = ["--endpoint-mode", "dnsrr", "--no-resolve-image", image];
    first.docker(&[&service[..], &how, &["python3", "-m", "http.server", PORT]].concat()).unwrap();
    until("the service runs on every host", || bed.hosts().iter().all(|host| container(host).is_some()));
}

/// Every container reaches the one of every other host, at its address on the overlay.
fn reach_each_other(bed: &Bed) {
    let address = |host: &Host| {
        let format = "{{.NetworkSettings.Networks.between.IPAddress}}";
        host.docker(&["inspect", "--format", format, &container(host).unwrap()]).unwrap()
    };
    for from in bed.hosts() {
        for to in bed.others(from) {
            let connect = format!("exec 3<> /dev/tcp/{}/{PORT}", address(to));
            let mut last = Ok(String::new());
            until("one container reaches the other", || {
                last = from.docker(&["exec", &container(from).unwrap(), "timeout", "2", "bash", "-c", &connect]);
                last.is_ok()
            });
        }
    }
}

fn a_killed_daemon_leaves_its_containers(bed: &Bed, host: &Host) {
    let pids = || host.exec(&["pgrep", "-f", "http.server"]);
    let before = pids().unwrap();
    host.kill_dockerd();
    assert!(host.docker(&["version"]).is_err());
    assert_eq!(pids().unwrap(), before, "the container goes on");
    host.start_dockerd();
    until("the Swarm is whole again", || bed.is_whole());
    until("the service runs there again", || container(host).is_some());
}

/// The running container of the service on a host.
fn container(host: &Host) -> Option<String> {
    let running = host.docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=files"]).unwrap();
    running.lines().next().map(str::to_owned)
}

fn engine(host: &Host) -> String {
    host.docker(&["info", "--format", "{{.ID}}"]).unwrap()
}

fn images(host: &Host) -> Vec<String> {
    let names = host.docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).unwrap();
    names.lines().map(str::to_owned).collect()
}

fn image(host: &Host) -> String {
    images(host).into_iter().find(|name| name.starts_with(IMAGE)).unwrap()
}
