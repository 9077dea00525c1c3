-- Where the agent `status` of ci_pipeline.py collects the outcomes of a push, in the transaction that posts its status.
-- Run it as often as you like. Where each run stands is not here: that is the projection ci_runs, made of the log.
create schema if not exists ci;

create table if not exists ci.pushes (
    workflow text constraint pushes_by_workflow primary key,
    commit text not null
);

create table if not exists ci.results (
    workflow text not null constraint results_of_a_push references ci.pushes,
    "check" text not null,
    outcome text not null,
    summary text,
    constraint results_one_per_check primary key (workflow, "check")
);
