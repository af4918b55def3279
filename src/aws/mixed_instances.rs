//! Several instance types in an Auto Scaling group: what is wished as AWS takes it, and what is there as it is written.

use aws_sdk_autoscaling::types::{
    AcceleratorCountRequest, AcceleratorTotalMemoryMiBRequest, BareMetal, BaselineEbsBandwidthMbpsRequest,
    BurstablePerformance, InstanceRequirements as Requirements, InstancesDistribution as Distribution, LaunchTemplate,
    LaunchTemplateOverrides as Override, LaunchTemplateSpecification, LocalStorage, MemoryGiBPerVCpuRequest,
    MemoryMiBRequest, MixedInstancesPolicy as Policy, NetworkBandwidthGbpsRequest, NetworkInterfaceCountRequest,
    TotalLocalStorageGbRequest, VCpuCountRequest,
};

use crate::stack::{Bounds, InstanceOverride, InstanceRequirements, InstancesDistribution, MixedInstances, Span};

/// A policy as AWS takes it. What no argument says, such as a type with a template of its own, is as it is there.
pub(super) fn policy(wish: &MixedInstances, there: Option<&Policy>, template: LaunchTemplateSpecification) -> Policy {
    let mut policy = spread(wish, there.unwrap_or(&Policy::builder().build()));
    let former = policy.launch_template.take().and_then(|of| of.overrides).unwrap_or_default();
    let overrides = wish.overrides.iter().enumerate().map(|(n, one)| to_override(one, same(one, n, &former)));
    let of = LaunchTemplate::builder().launch_template_specification(template);
    policy.launch_template = Some(of.set_overrides(Some(overrides.collect())).build());
    policy
}

/// A policy that is there, with another distribution. Types are for the roll that replaces instances of others.
pub(super) fn spread(wish: &MixedInstances, there: &Policy) -> Policy {
    let mut policy = there.clone();
    let former = policy.instances_distribution.take();
    policy.instances_distribution = wish.instances_distribution.as_ref().map(|wish| to_distribution(wish, former));
    if let Some(of) = &mut policy.launch_template {
        let own = of.overrides.iter_mut().flatten().filter_map(|one| one.launch_template_specification.as_mut());
        of.launch_template_specification.iter_mut().chain(own).for_each(by_id);
    }
    policy
}

/// AWS answers id and name of a template and takes one of them.
fn by_id(template: &mut LaunchTemplateSpecification) {
    template.launch_template_name =
        template.launch_template_name.take().filter(|_| template.launch_template_id.is_none());
}

/// Whether a type has a template or an image of its own, which no argument describes and no release changes.
pub(super) fn is_beyond_us(policy: &Policy) -> bool {
    let overrides = policy.launch_template().map(|of| of.overrides()).unwrap_or_default();
    overrides.iter().any(|one| one.launch_template_specification.is_some() || one.image_id.is_some())
}

/// What is there of an override: that of the same type, or the requirements in the same place.
fn same<'o>(wish: &InstanceOverride, n: usize, former: &'o [Override]) -> Option<&'o Override> {
    match &wish.instance_type {
        Some(kind) => former.iter().find(|one| one.instance_type() == Some(kind)),
        None => former.get(n).filter(|one| one.instance_requirements.is_some()),
    }
}

fn to_override(wish: &InstanceOverride, there: Option<&Override>) -> Override {
    let mut one = there.cloned().unwrap_or_else(|| Override::builder().build());
    one.instance_type.clone_from(&wish.instance_type);
    one.weighted_capacity = wish.weighted_capacity.map(|weight| weight.to_string());
    let former = one.instance_requirements.take();
    one.instance_requirements = wish.instance_requirements.as_ref().map(|wish| to_requirements(wish, former));
    one
}

fn to_distribution(wish: &InstancesDistribution, there: Option<Distribution>) -> Distribution {
    let had_price = there.as_ref().is_some_and(|there| there.spot_max_price().is_some_and(|price| !price.is_empty()));
    let mut distribution = there.unwrap_or_else(|| Distribution::builder().build());
    distribution.on_demand_allocation_strategy.clone_from(&wish.on_demand_allocation_strategy);
    distribution.on_demand_base_capacity = wish.on_demand_base_capacity;
    distribution.on_demand_percentage_above_base_capacity = wish.on_demand_percentage_above_base_capacity;
    distribution.spot_allocation_strategy.clone_from(&wish.spot_allocation_strategy);
    distribution.spot_instance_pools = wish.spot_instance_pools;
    // An empty price takes a former one away.
    distribution.spot_max_price = wish.spot_max_price.clone().or(had_price.then(String::new));
    distribution
}

/// What a type must have, from a wish, over what is there.
macro_rules! bounds {
    ($wish:expr, $kind:ident) => {
        $wish.map(|it| $kind::builder().set_min(it.min).set_max(it.max).build())
    };
}

fn to_requirements(wish: &InstanceRequirements, there: Option<Requirements>) -> Requirements {
    fn list<'t, T: From<&'t str>>(texts: &'t [String]) -> Option<Vec<T>> {
        (!texts.is_empty()).then(|| texts.iter().map(|text| T::from(text.as_str())).collect())
    }
    let mut all = there.unwrap_or_else(|| Requirements::builder().build());
    all.v_cpu_count = bounds!(Some(wish.vcpu_count), VCpuCountRequest);
    all.memory_mib = bounds!(Some(wish.memory_mib), MemoryMiBRequest);
    all.memory_gib_per_v_cpu = bounds!(wish.memory_gib_per_vcpu, MemoryGiBPerVCpuRequest);
    all.cpu_manufacturers = list(&wish.cpu_manufacturers);
    all.instance_generations = list(&wish.instance_generations);
    all.allowed_instance_types = list(&wish.allowed_instance_types);
    all.excluded_instance_types = list(&wish.excluded_instance_types);
    all.bare_metal = wish.bare_metal.as_deref().map(BareMetal::from);
    all.burstable_performance = wish.burstable_performance.as_deref().map(BurstablePerformance::from);
    all.require_hibernate_support = wish.require_hibernate_support;
    all.network_interface_count = bounds!(wish.network_interface_count, NetworkInterfaceCountRequest);
    all.network_bandwidth_gbps = bounds!(wish.network_bandwidth_gbps, NetworkBandwidthGbpsRequest);
    all.baseline_ebs_bandwidth_mbps = bounds!(wish.baseline_ebs_bandwidth_mbps, BaselineEbsBandwidthMbpsRequest);
    all.local_storage = wish.local_storage.as_deref().map(LocalStorage::from);
    all.local_storage_types = list(&wish.local_storage_types);
    all.total_local_storage_gb = bounds!(wish.total_local_storage_gb, TotalLocalStorageGbRequest);
    all.accelerator_count = bounds!(wish.accelerator_count, AcceleratorCountRequest);
    all.accelerator_types = list(&wish.accelerator_types);
    all.accelerator_manufacturers = list(&wish.accelerator_manufacturers);
    all.accelerator_names = list(&wish.accelerator_names);
    all.accelerator_total_memory_mib = bounds!(wish.accelerator_total_memory_mib, AcceleratorTotalMemoryMiBRequest);
    all.spot_max_price_percentage_over_lowest_price = wish.spot_max_price_percentage_over_lowest_price;
    all.max_spot_price_as_percentage_of_optimal_on_demand_price =
        wish.max_spot_price_as_percentage_of_optimal_on_demand_price;
    all.on_demand_max_price_percentage_over_lowest_price = wish.on_demand_max_price_percentage_over_lowest_price;
    all
}

/// A policy as it is written.
pub(super) fn seen(policy: &Policy) -> MixedInstances {
    let of = policy.launch_template();
    MixedInstances {
        instances_distribution: policy.instances_distribution().map(distribution),
        overrides: of.map(|of| of.overrides()).unwrap_or_default().iter().map(one).collect(),
    }
}

fn one(there: &Override) -> InstanceOverride {
    InstanceOverride {
        instance_type: there.instance_type.clone(),
        weighted_capacity: there.weighted_capacity().and_then(|weight| weight.parse().ok()),
        instance_requirements: there.instance_requirements().map(requirements),
    }
}

fn distribution(there: &Distribution) -> InstancesDistribution {
    InstancesDistribution {
        on_demand_allocation_strategy: there.on_demand_allocation_strategy.clone(),
        on_demand_base_capacity: there.on_demand_base_capacity,
        on_demand_percentage_above_base_capacity: there.on_demand_percentage_above_base_capacity,
        spot_allocation_strategy: there.spot_allocation_strategy.clone(),
        spot_instance_pools: there.spot_instance_pools,
        spot_max_price: there.spot_max_price.clone().filter(|price| !price.is_empty()),
    }
}

fn requirements(there: &Requirements) -> InstanceRequirements {
    macro_rules! range {
        ($into:ident, $it:expr) => {
            $it.map(|it| $into { min: it.min(), max: it.max() })
        };
    }
    macro_rules! texts {
        ($list:expr) => {
            $list.iter().map(|one| one.as_str().to_owned()).collect()
        };
    }
    InstanceRequirements {
        vcpu_count: range!(Bounds, there.v_cpu_count()).unwrap_or_default(),
        memory_mib: range!(Bounds, there.memory_mib()).unwrap_or_default(),
        memory_gib_per_vcpu: range!(Span, there.memory_gib_per_v_cpu()),
        cpu_manufacturers: texts!(there.cpu_manufacturers()),
        instance_generations: texts!(there.instance_generations()),
        allowed_instance_types: there.allowed_instance_types().to_vec(),
        excluded_instance_types: there.excluded_instance_types().to_vec(),
        bare_metal: there.bare_metal().map(|it| it.as_str().to_owned()),
        burstable_performance: there.burstable_performance().map(|it| it.as_str().to_owned()),
        require_hibernate_support: there.require_hibernate_support,
        network_interface_count: range!(Bounds, there.network_interface_count()),
        network_bandwidth_gbps: range!(Span, there.network_bandwidth_gbps()),
        baseline_ebs_bandwidth_mbps: range!(Bounds, there.baseline_ebs_bandwidth_mbps()),
        local_storage: there.local_storage().map(|it| it.as_str().to_owned()),
        local_storage_types: texts!(there.local_storage_types()),
        total_local_storage_gb: range!(Span, there.total_local_storage_gb()),
        accelerator_count: range!(Bounds, there.accelerator_count()),
        accelerator_types: texts!(there.accelerator_types()),
        accelerator_manufacturers: texts!(there.accelerator_manufacturers()),
        accelerator_names: texts!(there.accelerator_names()),
        accelerator_total_memory_mib: range!(Bounds, there.accelerator_total_memory_mib()),
        spot_max_price_percentage_over_lowest_price: there.spot_max_price_percentage_over_lowest_price,
        max_spot_price_as_percentage_of_optimal_on_demand_price: there
            .max_spot_price_as_percentage_of_optimal_on_demand_price,
        on_demand_max_price_percentage_over_lowest_price: there.on_demand_max_price_percentage_over_lowest_price,
    }
}
