-- Where ci_pipeline.py collects the outcomes of a push. Run it as often as you like.
create schema if not exists ci;

create table if not exists ci.pushes (
    push uuid constraint pushes_by_event primary key,
    commit text not null
);

create table if not exists ci.results (
    push uuid not null constraint results_of_a_push references ci.pushes,
    "check" text not null,
    outcome text not null,
    summary text,
    constraint results_one_per_check primary key (push, "check")
);
