//! `stack.yaml`: what is read, and how what is wrong with it is shown.

use std::path::Path;
use std::time::Duration;

use launcher::instance::RestartPolicy;
use stack::{Stack, StackError};

fn parse(text: &str) -> Result<Stack, StackError> {
    Stack::parse(Path::new("/x/shop/stack.yaml"), text.to_owned(), "shop")
}

/// What is said of a stack that is wrong.
fn fault(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_service_has_what_is_said_and_defaults_for_the_rest() {
    let stack = parse(
        "network: lan1
services:
  db:
    command: db --fast 'a b'
    replicas: 3
    memory: 200M
    cpus: 2
    env: { A: 1, B: 'x=y' }
    ports: ['0:9001', 0:53/udp]
    volumes: [data:ro, ./own.qcow2:ro]
    ready: { port: 9001, http: /healthz, seconds: 5 }
    restart: on-failure:3
  kv: {}
",
    )
    .unwrap();
    assert_eq!(stack.network().as_str(), "lan1");
    let db = stack.service("db").unwrap();
    assert_eq!((db.replicas, db.memory.mib(), db.cpus.get()), (3, 200, 2));
    let variables: Vec<_> = db.environment.iter().map(launcher::Variable::entry).collect();
    assert_eq!(variables, ["A=1", "B=x=y"]);
    let volumes: Vec<_> = db.volumes.iter().map(ToString::to_string).collect();
    assert_eq!(volumes, ["data:ro", "/x/shop/./own.qcow2:ro"]);
    let ready = db.ready.as_ref().unwrap();
    assert_eq!(
        (ready.path.as_deref(), ready.patience),
        (Some("/healthz"), Duration::from_secs(5))
    );
    assert_eq!(db.restart, RestartPolicy::OnFailure(Some(3)));

    let kv = stack.service("kv").unwrap();
    assert_eq!(
        (kv.command.as_str(), kv.replicas, kv.restart),
        ("kv", 1, RestartPolicy::Always)
    );
    assert_eq!(parse("services: { a: {} }").unwrap().network().as_str(), "shop");
}

#[test]
fn services_come_after_those_that_they_depend_on() {
    let stack = parse("services: { a: { depends_on: [c] }, b: {}, c: { depends_on: [b] } }").unwrap();
    let names: Vec<_> = stack
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(names, ["b", "c", "a"]);
}

#[test]
fn the_members_of_a_stack_are_numbered_named_and_labelled() {
    let stack = parse("services: { kv: {}, w: { replicas: 2, depends_on: [kv] } }").unwrap();
    let wanted = stack.wanted(Path::new("/i.qcow2")).unwrap();
    let names: Vec<_> = wanted.iter().map(|wanted| wanted.request.name.as_str()).collect();
    assert_eq!(names, ["shop-kv-1", "shop-w-1", "shop-w-2"]);
    let request = &wanted[2].request;
    assert_eq!(request.network.to_string(), "lan:shop");
    assert_eq!(request.aliases, ["w"]);
    let labels: Vec<_> = request.labels.iter().map(ToString::to_string).collect();
    assert_eq!(
        labels,
        [
            "hermitage/stack=shop",
            "hermitage/service=w",
            "hermitage/stack-file=/x/shop/stack.yaml"
        ]
    );
}

#[test]
fn what_is_wrong_is_shown_with_its_line_and_a_caret() {
    let shown = fault("services:\n  worker:\n    memory: lots\n");
    assert!(
        shown.ends_with("\n --> /x/shop/stack.yaml:3:13\n  |\n3 |     memory: lots\n  |             ^^^^"),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    for (text, message, place) in [
        ("services: {}", "a stack has services, this has none", "1:1"),
        ("servces: { a: {} }", "servces", "1:1"),
        ("services:\n  a: { memry: 1M }", "memry", "2:8"),
        ("services:\n  a: {}\n  a: {}", "`a` is there twice", "3:3"),
        ("services:\n  A: {}", "`A` is no name of a service", "2:3"),
        ("services:\n  a: { replicas: 251 }", "250 at most", "2:18"),
        ("services:\n  a: { replicas: many }", "", "2:18"),
        (
            "services:\n  a: { replicas: 2, ports: ['80:80'] }",
            "the host's port of `127.0.0.1:80:80` is one",
            "2:18",
        ),
        (
            "volumes:\n  a b: { size: 1M }\nservices:\n  a: {}",
            "`a b` is not a volume",
            "2:3",
        ),
        (
            "volumes:\n  data: { size: big }\nservices:\n  a: {}",
            "`big` is no size",
            "2:17",
        ),
        (
            "services:\n  a: { replicas: 2, volumes: [data] }",
            "the volume `data` is one guest's",
            "2:18",
        ),
        ("services:\n  a: { ports: ['80'] }", "names one port", "2:16"),
        (
            "services:\n  a: { ports: ['80:1'] }\n  b: { ports: ['80:2'] }",
            "leads to `a` already",
            "3:16",
        ),
        (
            "services:\n  a: { depends_on: [b] }",
            "`a` depends on `b`, which is no service",
            "2:21",
        ),
        (
            "services:\n  a: { depends_on: [b] }\n  b: { depends_on: [a] }",
            "`a` -> `b` -> `a`",
            "2:3",
        ),
        ("services:\n  a: { ready: { port: 0 } }", "0 is no port", "2:23"),
        (
            "services:\n  a: { ready: { port: 1, http: x y } }",
            "`x y` is no path",
            "2:32",
        ),
        (
            "services:\n  a: { restart: often }",
            "`often` is no restart policy",
            "2:17",
        ),
        (
            "network: LAN\nservices: { a: {} }",
            "is no name of a network",
            "1:10",
        ),
    ] {
        let fault = fault(text);
        assert!(fault.contains(message), "{text}: {fault}");
        assert!(
            fault.contains(&format!("stack.yaml:{place}\n")),
            "{text}: {fault}"
        );
    }
    let long = "a".repeat(60);
    assert!(fault(&format!("services: {{ {long}: {{}} }}")).contains("is not a name of an instance"));
    assert!(
        Stack::parse(
            Path::new("stack.yaml"),
            "services: { a: {} }".to_owned(),
            "No_Name"
        )
        .is_err()
    );
}

#[test]
fn a_service_is_scaled_to_what_it_can_have() {
    let mut stack = parse("services: { ui: { ports: ['80:80'] }, worker: {} }").unwrap();
    stack.scale("worker", 5).unwrap();
    assert_eq!(stack.service("worker").unwrap().replicas, 5);
    stack.scale("ui", 0).unwrap();
    let error = stack.scale("ui", 2).unwrap_err().to_string();
    assert!(
        error.contains("service `ui` cannot have 2 instances: the host's port"),
        "{error}"
    );
    let error = stack.scale("wroker", 2).unwrap_err();
    assert_eq!(error.to_string(), "stack `shop` has no service `wroker`");
}

#[test]
fn own_volumes_have_the_stacks_name_before_their_own() {
    let stack = parse(
        "\
volumes:
  data: { size: 64M }
services:
  a: { volumes: [data, other, ./data.raw] }
  b: { volumes: [data:db:ro] }
  c: { volumes: [data:/data] }
",
    )
    .unwrap();
    let own: Vec<_> = stack
        .volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.size))
        .collect();
    assert_eq!(own, [("shop-data", 64 << 20)]);
    let texts = |service: &str| -> Vec<String> {
        let service = stack.service(service).unwrap();
        service.volumes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts("a"), ["shop-data:data", "other", "/x/shop/./data.raw"]);
    assert_eq!(texts("b"), ["shop-data:db:ro"]);
    assert_eq!(texts("c"), ["shop-data:/data"]);
}
